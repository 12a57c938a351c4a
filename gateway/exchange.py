"""One request at the edge, from its head to its answer."""

import time
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import grpc

from gateway import bodies, errors, headers, spans
from gateway.api_keys import digest_of
from gateway.errors import Failure, Headers, Refusal
from gateway.headers import Incoming
from gateway.http1 import PRESENCE, Presence, Receive, Scope, Send
from gateway.limits import Asking
from gateway.refusals import Refused
from gateway.shedding import JSON, NO_STORE
from gateway.site import Route, StreamRoute
from gateway.streams import ClientLeft, Ended, Stream
from gateway.well_known import NoJsonForm
from services.chassis import context, telemetry
from services.chassis.client.deadline import DEADLINE_MARGIN_S
from services.chassis.client.unsent import RefusedHere
from services.chassis.context import RequestContext
from services.chassis.contract import DEADLINE_MAX_S
from services.chassis.identity.caller import NOBODY, Caller
from services.chassis.server.address import CLIENT_ADDRESS
from services.chassis.server.deadline import DeadlineExceeded
from services.kernel.errors import DomainError

if TYPE_CHECKING:
    from gateway.edge import Edge

_CLIENT_LEFT: Final = 499  # nginx's word for it; only logs and metrics ever see it
_REFUSED: Final = 400  # and above
_LATE: Final = 504

_log = telemetry.logger(__name__)


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_client",
        "_common",
        "_edge",
        "_ended",
        "_is_counted",
        "_is_private",
        "_is_shed",
        "_presence",
        "_receive",
        "_route",
        "_scope",
        "_send",
        "_sending_s",
        "_started",
    )

    def __init__(self, edge: "Edge", scope: Scope, receive: Receive, send: Send) -> None:
        self._edge = edge
        self._scope = scope
        self._presence: Presence = scope["state"][PRESENCE]
        self._receive = receive
        self._send = send
        self._route: Route | None = None
        self._ended: Ended | None = None
        self._common: Headers = edge.hygiene.fixed
        self._is_counted = False
        self._is_private = False
        self._is_shed = False
        self._client = ""
        self._sending_s = 0.0
        self._started = time.perf_counter()

    async def run(self) -> None:
        try:
            incoming = headers.read(self._scope["headers"], self._edge.sampling)
        except Refusal as refusal:
            await self._refuse(refusal.failure, headers.ids(self._scope["headers"]))
            return
        context.set_current(RequestContext(trace=incoming.trace))  # the task is this request's own
        self._common = [*incoming.returned, *self._edge.hygiene.headers(incoming)]
        self._is_private = incoming.has_credentials
        status = _CLIENT_LEFT
        try:
            status = await self._answer(incoming)
        except Refusal as refusal:
            status = await self._fail(refusal.failure)
        except RefusedHere as error:
            self._is_shed = True  # the circuit's change is told, and the figures tell the rest
            status = await self._fail(self._edge.shedding.left_alone(error))
        except DomainError as error:
            status = await self._fail(self._edge.refused(error))
        except grpc.aio.AioRpcError as error:
            status = await self._fail(self._edge.failed(error))
        except ClientLeft:
            status = _CLIENT_LEFT
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 (whatever it was: logged, and answered without a word of it)
            _log.exception("request failed", rpc="" if self._route is None else self._route.method.path)
            status = await self._fail(errors.internal().failure)
        finally:
            if self._is_counted:
                self._leave(status)
        self._done(status, incoming.request_id, incoming)

    async def _answer(self, incoming: Incoming) -> int:
        scope, edge = self._scope, self._edge
        address = self._client = self._address(incoming) if edge.counts_or_guards else ""
        if edge.rates is not None:
            await edge.rates.arrived(address)
        found = edge.find(scope["method"], scope["raw_path"].decode("latin-1"))
        if isinstance(found, Failure):
            return await self._fail(found)
        route, values = found
        self._route = route
        self._is_private = self._is_private or route.reply.carries_secrets
        self._admit(route)
        caller = await self._let_in(route, incoming, address) if edge.counts_or_guards else NOBODY
        if route.takes_stream:
            message = "HTTP carries no stream of requests; call this method by gRPC."
            raise Refusal(501, "UNIMPLEMENTED", "STREAMS_NOT_OFFERED", message)
        wire = await self._request(route, values, incoming, caller)
        if route.stream is not None:
            holder = "" if edge.rates is None else edge.rates.counted_as(_asking(incoming, address, caller))
            return await self._stream(route, route.stream, wire, incoming, holder)
        return await self._unary(route, wire, incoming)

    def _admit(self, route: Route) -> None:
        """Raises Refusal if there is no room for it, RefusedHere if there is none at its backend.

        Streams are not counted: they last, and do little.
        """
        limiter = self._edge.limiter
        if route.stream is not None:
            self._is_shed = not limiter.has_room(route.priority)
        else:
            self._is_counted = limiter.enter(route.priority)
            self._is_shed = not self._is_counted
        if self._is_shed:
            raise Refusal.of(self._edge.shedding.overloaded())
        if route.stream is None:
            route.ward.look(time.perf_counter())

    async def _let_in(self, route: Route, incoming: Incoming, address: str) -> Caller:
        """Who asks, if not too often, and if anything they could ask of this route may be theirs.

        Raises DomainError or Refusal.
        """
        guard, rates, caller = self._edge.access, self._edge.rates, NOBODY
        if guard is not None and route.access is not None:
            incoming.metadata.add(CLIENT_ADDRESS, address)
            caller = await guard.caller(incoming, route.access)
            request = context.current()
            if request is not None:
                request.caller = caller
            guard.admit_early(route.access, caller)
        if rates is not None:
            await rates.admitted(route.rates, _asking(incoming, address, caller))
        return caller

    async def _request(
        self, route: Route, values: tuple[str, ...], incoming: Incoming, caller: Caller
    ) -> bytes:
        """What goes to the backend. Raises DomainError, Refusal or ClientLeft."""
        body = b""
        if route.request.takes_body:
            body = await bodies.read(
                self._presence,
                self._receive,
                incoming,
                takes_json=route.request.takes_json,
                bytes_max=self._edge.body_bytes_max,
                sending=self._sending,
            )
        try:
            message = route.request.read(
                values,
                self._scope["query_string"],
                body,
                incoming.content_type,
                incoming.idempotency_key,
                last_event_id=incoming.last_event_id,
            )
            if self._edge.access is not None and route.access is not None:
                self._edge.access.admit(route.access, message, caller)
            return route.request.encode(message)
        except Refused as refused:
            raise errors.invalid(refused) from None

    @contextmanager
    def _sending(self) -> Iterator[None]:
        """While a body is on its way, which is no matter of our pace. Raises Refusal."""
        held, begun = self._edge.bodies, time.perf_counter()
        with nullcontext() if held is None else held.holding(self._client):
            yield
        self._sending_s += time.perf_counter() - begun

    async def _unary(self, route: Route, wire: bytes, incoming: Incoming) -> int:
        reply, metadata = await self._call(route, wire, incoming)
        try:
            rendered = route.reply.render(reply)
        except NoJsonForm as error:
            _log.error("reply has no JSON form", method=route.method.path, why=str(error))
            raise errors.internal() from None
        out = self._head(metadata)
        if rendered.content_type is not None:
            out.append((b"content-type", rendered.content_type))
        if rendered.location is not None:
            out.append((b"location", rendered.location))
        await self._presence.reply(rendered.status, out, rendered.body)
        return rendered.status

    def _address(self, incoming: Incoming) -> str:
        peer, addresses = self._scope.get("client"), self._edge.addresses
        return addresses.of(peer[0] if peer else "", incoming.forwarded.get(addresses.header))

    async def _call(self, route: Route, wire: bytes, incoming: Incoming) -> tuple[bytes, Headers]:
        """The backend's reply and the metadata to hand back.

        Raises AioRpcError, ClientLeft, or DomainError if the backend is left alone.
        """
        presence, ward = self._presence, route.ward
        begun = time.perf_counter()
        timeout_s = self._timeout_s(route, incoming, DEADLINE_MAX_S, begun)
        era = ward.enter(begun)
        failed: bool | None = None
        call = _made(route, wire, incoming, timeout_s)
        presence.on_leaving = call.cancel
        try:
            reply: bytes = await call
            failed = ward.judge(None, begun, time.perf_counter())
        except CancelledError:
            if presence.gone:
                raise ClientLeft from None
            call.cancel()
            raise
        except grpc.aio.AioRpcError as error:
            if presence.gone:
                raise ClientLeft from None
            failed = ward.judge(error, begun, time.perf_counter())
            raise
        finally:
            presence.on_leaving = None
            ward.leave(era, failed, time.perf_counter())
        return reply, headers.returned(await call.initial_metadata())

    async def _stream(
        self, route: Route, parts: StreamRoute, wire: bytes, incoming: Incoming, holder: str
    ) -> int:
        """Raises ClientLeft or Refusal if the stream comes to nothing."""
        if self._scope["http_version"] == "1.0":
            raise Refusal(505, "UNIMPLEMENTED", "STREAM_NEEDS_HTTP_1_1", "A stream needs HTTP/1.1.")
        open_streams = self._edge.streams
        open_streams.admit(holder)
        longest_s = open_streams.limits.age_max_s
        timeout_s = self._timeout_s(route, incoming, longest_s, time.perf_counter())
        call = _made(route, wire, incoming, timeout_s)
        framing = parts.rendering.framing(incoming.accept)
        stream = Stream(
            call,
            framing,
            self._presence,
            self._send,
            head_only=self._scope["method"] == "HEAD",
            resumes=parts.rendering.resumes,
            head=lambda metadata: [*self._common, *headers.returned(metadata)],
            render=self._edge.failed,
            limits=open_streams.limits,
            metrics=parts.metrics,
        )
        self._ended = await open_streams.run(stream, holder)
        parts.metrics.ended(self._ended.outcome)
        return 200

    def _timeout_s(self, route: Route, incoming: Incoming, longest_s: float, now: float) -> float:
        """Seconds for the backend. Raises ClientLeft, Refusal, or DeadlineExceeded if there are none left."""
        if self._presence.gone:
            raise ClientLeft
        if route.call is None:
            raise Refusal(503, "UNAVAILABLE", "NOT_SERVING", "The edge is not serving.")
        named_s = route.deadline_s if incoming.timeout_s is None else incoming.timeout_s
        timeout_s = longest_s if named_s is None else min(named_s, longest_s)
        # What we keep to answer in time when the backend does not. (It also makes up for gRPC, which rounds
        # timeouts up on the wire, by up to 1 %.)
        timeout_s -= min(DEADLINE_MARGIN_S, timeout_s / 10)
        if incoming.timeout_s is not None:
            timeout_s -= now - self._started  # the client's time runs while its body is on the way
            if timeout_s <= 0:
                raise DeadlineExceeded
        return timeout_s

    async def _refuse(self, failure: Failure, ids: tuple[bytes, bytes]) -> None:
        request_id, correlation_id = ids
        returned = ((b"x-request-id", request_id), (b"x-correlation-id", correlation_id))
        self._common = [*returned, *self._edge.hygiene.fixed]
        self._done(await self._fail(failure), request_id.decode())

    async def _fail(self, failure: Failure) -> int:
        out = self._head(failure.headers)
        if failure.body:
            out.append(JSON)
        await self._presence.reply(failure.status, out, failure.body)
        return failure.status

    def _head(self, more: Headers) -> Headers:
        out = [*self._common, *more]
        if self._is_private and all(name != b"cache-control" for name, _ in more):
            out.append(NO_STORE)  # what one client may see is nothing for a cache that others ask
        return out

    def _leave(self, status: int) -> None:
        route, limiter = self._route, self._edge.limiter
        assert route is not None
        # Of what a method that `waits` took, nobody here knows how much was waiting.
        if (status < _REFUSED or status == _LATE) and not route.method.waits:
            now = time.perf_counter()
            limiter.leave_after(route.pace, now - self._started - self._sending_s, now)
        else:
            limiter.leave(route.pace)

    def _done(self, status: int, request_id: str, incoming: Incoming | None = None) -> None:
        seconds = time.perf_counter() - self._started
        route, ended = self._route, self._ended
        (self._edge.nowhere if route is None else route.metrics).answered(
            status, seconds if ended is None else None
        )
        if self._is_shed:
            return  # told of together
        if incoming is not None:
            spans.write(incoming, self._scope["method"], route, status, seconds)
        more = {} if ended is None else {"outcome": ended.outcome, "messages": ended.messages}
        _log.info_later(
            "request",
            http_method=self._scope["method"],
            route="" if route is None else route.rule.template.text,
            rpc="" if route is None else route.method.path,
            status=status,
            duration_ms=round(seconds * 1000, 3),
            request_id=request_id,
            **more,
        )


def _made(route: Route, wire: bytes, incoming: Incoming, timeout_s: float) -> Any:
    """The call, begun."""
    assert route.call is not None
    return route.call(wire, timeout=timeout_s, metadata=incoming.metadata)


def _asking(incoming: Incoming, address: str, caller: Caller) -> Asking:
    # A key that proves nothing is nobody's: with a new one each time, nothing would be counted.
    is_known = incoming.api_key is not None and bool(caller.name)
    return Asking(address, caller.user_id, digest_of(incoming.api_key or b"").hex() if is_known else "")
