"""What browsers are told about an answer: that it is data and no page, and whose pages may read it.

Who asks is never told by a cookie, so that a page elsewhere can do nothing in a shopper's name; CORS
(https://fetch.spec.whatwg.org/#http-cors-protocol) only opens answers to pages of origins that are named.
"""

import re
from collections.abc import Iterable
from typing import Final

from gateway.errors import Headers
from gateway.headers import UNDERSTOOD, Incoming

ANY_ORIGIN: Final = "*"

# An answer is data: a browser that is led to show it as a page gets nothing that could run or be framed.
_DATA: Final[Headers] = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
]
_HTTPS_ONLY: Final = (b"strict-transport-security", b"max-age=63072000")  # two years, as preload lists ask

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?|https?://\[[0-9a-f:]+\](?::[0-9]{1,5})?")
_VARIES: Final = (b"vary", b"origin")
_NOT_FOR_SCRIPTS: Final = {
    b"access-control-request-method",
    b"content-length",
    b"expect",
    b"forwarded",
    b"origin",
    b"x-forwarded-for",
}
_PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"DELETE, GET, HEAD, PATCH, POST, PUT"),
    (b"access-control-allow-headers", b", ".join(sorted(UNDERSTOOD - _NOT_FOR_SCRIPTS))),
    (b"access-control-max-age", b"7200"),  # what Chromium takes at most
]
_READABLE: Final = (
    b"access-control-expose-headers",
    (
        b"etag, location, ratelimit, ratelimit-policy, retry-after, traceparent, "
        b"x-bodega-stale, x-correlation-id, x-request-id"
    ),
)


class BadOrigin(ValueError):
    """What is given is no origin."""


class Hygiene:
    """Adds to every answer what browsers should know."""

    def __init__(self, origins: Iterable[str] = (), *, https_only: bool = False) -> None:
        """`origins`: whose pages may read answers, e.g. `https://shop.example`; `*`: everyone's.

        `https_only`: says that there is no other way to us, for someone in front ends TLS. Raises BadOrigin.
        """
        given = frozenset(origins)
        for origin in given - {ANY_ORIGIN}:
            if not _ORIGIN.fullmatch(origin):
                raise BadOrigin(f"{origin!r} is no origin such as https://shop.example")
        self._origins = frozenset(origin.encode() for origin in given)
        self._fixed = [*_DATA, _HTTPS_ONLY] if https_only else _DATA

    def headers(self, incoming: Incoming) -> Headers:
        """Those of the answer to this request."""
        if not self._origins:
            return self._fixed
        origin = incoming.origin
        if origin is None or not (origin in self._origins or ANY_ORIGIN.encode() in self._origins):
            return [*self._fixed, _VARIES]
        allowed = (b"access-control-allow-origin", origin)
        more = _PREFLIGHT if incoming.is_preflight else (_READABLE,)
        return [*self._fixed, _VARIES, allowed, *more]

    @property
    def opens_to_pages(self) -> bool:
        """Whether an answer's headers depend on the page that asks."""
        return bool(self._origins)

    @property
    def fixed(self) -> Headers:
        """Those of the answer to a request of which nothing is known."""
        return self._fixed
