"""Whether the edge lives, has started, and can be sent traffic."""

from collections.abc import Callable, Mapping
from typing import Final

import orjson

from gateway.errors import Failure

LIVE: Final = "/health/live"
STARTUP: Final = "/health/startup"
READY: Final = "/health/ready"

_LOST: Final = frozenset({"transient failure", "shutdown"})


class Health:
    """Ready: started, not draining, and not cut off from every backend.

    One backend down does not take the edge out of service: the others' routes still work, and this one's
    answer 503 by themselves.
    """

    def __init__(self) -> None:
        self.started = False
        self.draining = False
        self.backends: Callable[[], Mapping[str, str]] = dict

    def answer(self, path: str, *, in_full: bool) -> Failure | None:
        """The reply of a health path; None for any other path.

        `in_full`: with the state of every backend by its address, which is nothing for the public.
        """
        if path == LIVE:
            return _answer("live", {}, well=True)
        if path == STARTUP:
            return _answer("started" if self.started else "starting", {}, well=self.started)
        if path == READY:
            states = dict(self.backends())
            reachable = not states or not _LOST.issuperset(states.values())
            well = self.started and not self.draining and reachable
            status = "draining" if self.draining else "ready" if well else "not ready"
            return _answer(status, {"backends": states} if in_full else {}, well=well)
        return None


def _answer(status: str, more: Mapping[str, object], *, well: bool) -> Failure:
    body = orjson.dumps({"status": status, **more})
    return Failure(200 if well else 503, body, [(b"cache-control", b"no-store")])
