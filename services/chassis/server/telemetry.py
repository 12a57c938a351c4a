"""Metrics and one log line for every call, however it ends. Requests and replies are never logged."""

from collections.abc import Callable
from typing import Final

from services.chassis import telemetry
from services.chassis.contract import Method
from services.chassis.metrics import Metrics
from services.chassis.policy.limiter import OVERLOADED

_log = telemetry.logger("access")

OK: Final = "OK"
CANCELLED: Final = "CANCELLED"
DEADLINE_EXCEEDED: Final = "DEADLINE_EXCEEDED"
UNKNOWN: Final = "UNKNOWN"

Ended = Callable[[str, str, float], None]


def observing(metrics: Metrics, method: Method) -> tuple[Callable[[], None], Ended]:
    """What to call when a call of this method begins, and when it ends: with code, reason and seconds."""
    figures, path = metrics.served(method), method.path

    def ended(code: str, reason: str, duration_s: float) -> None:
        figures.ended(code, duration_s)
        if reason == OVERLOADED:
            return  # those are many, and shedding tells of them together
        _log.info_later(
            "call", method=path, code=code, reason=reason, duration_ms=round(duration_s * 1000, 3)
        )

    return figures.begun, ended
