"""The edge as an ASGI application: what all its requests share.

It holds no business rule and no state: everything a route needs was made at start (site.py), a request only
passes through.
"""

from collections.abc import Mapping

import grpc

from gateway import errors
from gateway.access import Access
from gateway.addresses import Addresses
from gateway.bodies import BODY_BYTES_MAX
from gateway.errors import Failure, Refusal
from gateway.exchange import Exchange
from gateway.health import Health
from gateway.holdings import Holdings
from gateway.http1 import Receive, Scope, Send
from gateway.hygiene import Hygiene
from gateway.limits import RateLimits
from gateway.metrics import RouteMetrics
from gateway.routes import MalformedPath
from gateway.shedding import Shedding
from gateway.site import Route, Site
from gateway.streams import Limits, Streams
from services.chassis.tracing.sampling import NO_SAMPLING, Sampling
from services.kernel.errors import DomainError


class Edge:
    """Serves a site. An ASGI application for connections of `http1`."""

    def __init__(
        self,
        site: Site,
        health: Health,
        limits: Limits | None = None,
        *,
        documents: Mapping[str, Failure] | None = None,
        hygiene: Hygiene | None = None,
        access: Access | None = None,
        addresses: Addresses | None = None,
        rates: RateLimits | None = None,
        body_bytes_max: int = BODY_BYTES_MAX,
        bodies: Holdings | None = None,
        sampling: Sampling = NO_SAMPLING,
    ) -> None:
        """`documents`: by path, what is answered where no rule takes it. `access`: None lets in everyone and
        hands on whatever they give as their authorization.
        """
        self._site = site
        self._health = health
        self._body_bytes_max = body_bytes_max
        self._nowhere = site.metrics.route("", "")
        self._documents = documents or {}
        self.hygiene = hygiene or Hygiene()
        self.sampling = sampling
        self.access = access
        self.addresses = addresses or Addresses()
        self.rates = rates
        self.bodies = bodies
        """Who sends how many."""

        self._in_flight = 0
        self.limiter = site.limiter
        self.shedding = Shedding(site, rates, self.addresses, self.hygiene)
        self.streams = Streams(limits or Limits())
        site.metrics.show_streams(lambda: len(self.streams))
        site.metrics.show_in_flight(lambda: self._in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self._in_flight += 1
        try:
            await Exchange(self, scope, receive, send).run()
        finally:
            self._in_flight -= 1

    def find(self, http_method: str, raw_path: str) -> tuple[Route, tuple[str, ...]] | Failure:
        """The route and its variables, or what is answered in place of one. Raises Refusal."""
        try:
            found = self._site.router.find(http_method, raw_path)
            if http_method == "HEAD" and (found is None or found.route is None):
                found = self._site.router.find("GET", raw_path)  # RFC 9110, 9.3.2
        except MalformedPath as error:
            raise errors.malformed("path", str(error)) from None
        if found is None:
            document = self._document(raw_path) if http_method in ("GET", "HEAD") else None
            if document is not None:
                return document
            raise Refusal(404, "NOT_FOUND", "ROUTE_NOT_FOUND", "There is nothing at this path.")
        if found.route is not None:
            return found.route, found.values
        allow = (b"allow", _allow(found.allowed))
        if http_method == "OPTIONS":
            return Failure(204, b"", [allow])
        message = "This path does not take this method."
        raise Refusal(405, "UNIMPLEMENTED", "METHOD_NOT_ALLOWED", message, headers=[allow])

    def _document(self, raw_path: str) -> Failure | None:
        """What the edge itself has to say, where no rule takes the path."""
        return self._documents.get(raw_path) or self._health.answer(raw_path, in_full=False)

    def drain(self) -> None:
        """Ends what would not end by itself."""
        self.streams.drain()

    def failed(self, error: grpc.aio.AioRpcError) -> Failure:
        return self._site.renderer.failure(error)

    @property
    def counts_or_guards(self) -> bool:
        """Whether it matters who asks."""
        return self.access is not None or self.rates is not None

    def refused(self, error: DomainError) -> Failure:
        return self._site.renderer.refusal(error)

    @property
    def nowhere(self) -> RouteMetrics:
        return self._nowhere

    @property
    def body_bytes_max(self) -> int:
        return self._body_bytes_max


def _allow(methods: tuple[str, ...]) -> bytes:
    return ", ".join(sorted({*methods, "OPTIONS", *(("HEAD",) if "GET" in methods else ())})).encode()
