"""The server onion: what stands between the wire and a handler.

    telemetry ( errors ( gates → handler, held to its deadline ) )

It is composed once per method, when a servicer is registered, into a single coroutine function that takes
the handler's place in grpc's own table. So there is no grpc interceptor at all: one would look the method up
again and build closures for it at every call, and could not see a request that does not parse. Nor does
every concern wrap the next in a coroutine of its own: gates are plain functions, called one after the other.
(Interceptors of others may still be given to the grpc server; they enter outside.)
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeAlias, TypeVar

import grpc
from google.protobuf.descriptor import FileDescriptor

from services.chassis import contract, failpoints, status
from services.chassis.context import NEVER, PUSHBACK, STALE, RequestContext, reset_current, set_current
from services.chassis.contract import ContractError, Method
from services.chassis.fault import PlayedFault
from services.chassis.identity.ownership import OwnerNotAsked
from services.chassis.metrics import Metrics
from services.chassis.policy.limiter import Limiter
from services.chassis.server import errors, validation
from services.chassis.server.address import address_of
from services.chassis.server.arrival import opening
from services.chassis.server.deadline import Deadline, DeadlineExceeded
from services.chassis.server.gate import Context, Gate, Stream, Unary
from services.chassis.server.in_flight import InFlight
from services.chassis.server.shedding import Shedding
from services.chassis.server.spans import tracing_of
from services.chassis.server.streaming import Streaming
from services.chassis.server.telemetry import CANCELLED, DEADLINE_EXCEEDED, OK, UNKNOWN, observing
from services.chassis.server.validation import Parsing, Validation
from services.chassis.status import Refused
from services.chassis.tracing.sampling import NO_SAMPLING, Sampling
from services.kernel.clock import Clock

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Servicer = TypeVar("_Servicer")
_Answer = Callable[[Any, RequestContext, Context], Awaitable[Any]]

BEFORE_CALL: Final = failpoints.site("server.call.before")
BEFORE_REPLY: Final = failpoints.site("server.reply.before", has_reply=True)

Denied = Callable[[RequestContext, str, str], None]
"""Is told of each call refused for who its caller is: the call, the caller's address, the reason."""

_DENIALS: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
_NOT_FOUND: Final = "NOT_FOUND"

AddToServer = Callable[[_Servicer, Any], None]
"""A generated `add_XServicer_to_server`."""


class Onion:
    """What is around every handler of one server."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        access: Gate,
        *,
        denied: Denied | None = None,
        limiter: Limiter | None = None,
        rates: Gate | None = None,
        sampling: Sampling = NO_SAMPLING,
    ) -> None:
        self._metrics = metrics
        self._sampling = sampling
        self._denied = denied
        self._monotonic = clock.monotonic
        self._deadline = Deadline(clock.monotonic)
        self._shedding = Shedding(clock.monotonic, limiter)
        self.limiter = self._shedding.limiter
        self.in_flight = InFlight()
        # In this order.
        self.gates: tuple[Gate, ...] = (
            self._deadline,  # before any work: what cannot finish is not begun
            self._shedding,  # before all that costs something: refusals must not
            Parsing(),  # those after it read the request
            access,  # before validation: strangers learn nothing, not even what would be valid
            *([rates] if rates else []),  # after access: it counts by caller, too
            Validation(),  # last: handlers and nothing else may rely on it
        )

    def serve(
        self,
        server: grpc.aio.Server,
        add_to_server: AddToServer[_Servicer],
        servicer: _Servicer,
        *files: FileDescriptor,
    ) -> list[str]:
        """Registers a servicer behind the onion; returns the full names of its services.

        Raises ContractError for a handler that none of these files declares, or of an unsuitable kind.
        """
        registration = _Registration(self, server, contract.by_path(*files))
        add_to_server(servicer, registration)
        return registration.services

    def unary(self, method: Method, handler: Unary) -> Unary:
        """The handler with everything around it."""
        deadline, reply_type = self._deadline, method.reply_type

        async def answer(request: Any, call: RequestContext, context: Context) -> Any:
            work = handler(request, context)
            reply = await (work if call.is_held else deadline.hold(call, work))
            _vouch(call, method, reply, reply_type)
            if call.stale_s is not None:
                await context.send_initial_metadata(((STALE, f"{call.stale_s:.0f}"),))
            return reply

        return self._around(method, answer)

    def stream(self, method: Method, handler: Stream) -> Unary:
        """The same for a handler of many replies.

        It writes the replies itself instead of being a generator for grpc to walk: so it is cancelled when
        the client leaves, and closes the handler's generator, which else were left to the garbage collector.
        """
        streaming, reply_type = Streaming(method, self._monotonic), method.reply_type

        async def answer(request: Any, call: RequestContext, context: Context) -> None:
            async with (
                aclosing(handler(request, context)) as made,
                aclosing(streaming.each(call, context, made)) as replies,
            ):
                async for reply in replies:
                    _vouch(call, method, reply, reply_type)
                    await streaming.hand(context, reply)

        return self._around(method, answer)

    def _around(self, method: Method, answer: _Answer) -> Unary:
        opened = opening(method, self._sampling)
        guards = tuple(guard for gate in self.gates if (guard := gate.guard(method)) is not None)
        begin, ended = observing(self._metrics, method)
        traced = tracing_of(method)
        left = self._shedding.leaving(method)
        monotonic, in_flight, denied = self._monotonic, self.in_flight, self._denied

        async def served(request: Any, context: Context) -> Any:
            begun = monotonic()
            begin()
            in_flight.enter()
            call = opened(request, context, begun)
            token = set_current(call)
            code, reason = OK, ""
            try:
                for guard in guards:
                    wait = guard(request, call, context)
                    if wait is not None:
                        await wait
                if failpoints.are_on():
                    await self._reach(BEFORE_CALL, call)
                reply = await answer(request, call, context)
                if failpoints.are_on():
                    await self._reach(BEFORE_REPLY, call)
            except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit) as error:
                code = _code(error, is_late=_is_late(call, monotonic()))
                raise
            except Exception as error:  # noqa: BLE001 (it ends here: as a status, and a bug in the log)
                refused = errors.refusal(error, method, is_late=_is_late(call, monotonic()))
                code, reason = refused.code.name, refused.reason
                if denied is not None and _is_denial(call, code):
                    denied(call, address_of(context), reason)
                if failpoints.are_on() and not isinstance(error, PlayedFault):
                    refused = await self._replayed(refused, call, method)
                _refuse(context, refused)
            else:
                return reply
            finally:
                now = monotonic()
                ended(code, reason, now - begun)
                traced(call, code, reason, now - begun)
                if call.is_counted:
                    left(code, now - begun - call.waited_s, now)
                reset_current(token)
                in_flight.leave()

        return served

    async def _reach(self, site: str, call: RequestContext) -> None:
        """As long as the call may take, like its work."""
        visit = failpoints.areach(site)
        await (visit if call.is_held else self._deadline.hold(call, visit))

    async def _replayed(self, refused: Refused, call: RequestContext, method: Method) -> Refused:
        """What becomes of a refusal on its way out: an answer like any other."""
        try:
            await self._reach(BEFORE_REPLY, call)
        except (PlayedFault, DeadlineExceeded) as error:
            return errors.refusal(error, method, is_late=False)
        return refused


def _vouch(call: RequestContext, method: Method, reply: object, reply_type: type) -> None:
    """Keeps back what only a bug could send."""
    if call.must_own:
        raise OwnerNotAsked(method.path)
    if not isinstance(reply, reply_type):
        raise errors.WrongReply(f"{method.path} returned {type(reply).__name__}, not {reply_type.__name__}")


def _is_late(call: RequestContext, now: float) -> bool:
    return call.deadline is not None and now >= call.deadline


def _is_denial(call: RequestContext, code: str) -> bool:
    """Whether who the caller is had to do with it.

    What is not theirs and what is not there are one here too, so that the one takes no longer than the other.
    """
    return code in _DENIALS or (code == _NOT_FOUND and call.must_own)


def _code(error: BaseException, *, is_late: bool) -> str:
    if isinstance(error, grpc.aio.AbortError):
        return UNKNOWN  # a handler that aborted by itself, past the onion
    # grpc cancels the handler both when the client goes away and when its deadline has passed.
    return DEADLINE_EXCEEDED if is_late else CANCELLED


def _refuse(context: Context, refused: Refused) -> None:
    """Has grpc send it in place of a reply. (`abort` says the same by an exception: 50 µs more.)"""
    # What has no details is to look as if it came from no server at all.
    trailers = status.trailers(refused.status) if refused.status.details else ()
    if refused.reason == errors.NeighbourUnavailable.reason:
        trailers += ((PUSHBACK, NEVER),)  # who stands next to the failing one has retried; once is enough
    context.set_trailing_metadata(trailers)
    context.set_code(refused.code)
    context.set_details(refused.status.message)


class _Registration:
    """Stands in for the server while generated code registers a servicer."""

    def __init__(self, onion: Onion, server: grpc.aio.Server, methods: Mapping[str, Method]) -> None:
        self._onion = onion
        self._server = server
        self._methods = methods
        self.services: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Generated code says everything twice; the other way also tells the names."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        wrapped = {
            name: self._wrapped(f"/{service}/{name}", handler)
            for name, handler in handlers.items()
            if not _is_generated(handler)
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
        self._server.add_registered_method_handlers(service, wrapped)
        self.services.append(service)

    def _wrapped(self, path: str, handler: Handler) -> Handler:
        method = self._methods.get(path)
        if method is None:
            raise ContractError(f"{path} is served but not declared in the files given")
        if handler.request_streaming:
            raise ContractError(f"{path} takes a stream; only unary requests are served")
        make: Callable[..., Handler]
        behaviour: Any
        if handler.response_streaming:
            behaviour = handler.unary_stream
            _must(inspect.isasyncgenfunction(behaviour), path, "an async generator function")
            make, behaviour = grpc.unary_stream_rpc_method_handler, self._onion.stream(method, behaviour)
        else:
            behaviour = handler.unary_unary
            _must(inspect.iscoroutinefunction(behaviour), path, "a coroutine function")
            make, behaviour = grpc.unary_unary_rpc_method_handler, self._onion.unary(method, behaviour)
        return make(
            behaviour,
            request_deserializer=validation.parser(method.request_type),
            response_serializer=handler.response_serializer,
        )


def _is_generated(handler: Handler) -> bool:
    """Whether nobody implemented the method; grpc itself then answers UNIMPLEMENTED."""
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    return str(getattr(behaviour, "__module__", "")).endswith("_pb2_grpc")


def _must(holds: bool, path: str, kind: str) -> None:  # noqa: FBT001
    if not holds:
        raise ContractError(f"the handler of {path} must be {kind}")
