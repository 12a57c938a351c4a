"""The server onion: what stands between the wire and a handler.

Layers are composed once per method, when a servicer is registered, into a single coroutine function that
takes the handler's place in grpc's own table. So there is no grpc interceptor at all: one would look the
method up again and build closures for it at every call, and could not see a request that does not parse.
(Interceptors of others, such as OpenTelemetry's for sampled calls, may still be given to the grpc server;
they enter outside.)
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeAlias, TypeVar

import grpc
from google.protobuf.descriptor import FileDescriptor

from services.chassis import contract, failpoints, status
from services.chassis.context import reset_current, set_current
from services.chassis.contract import ContractError, Method
from services.chassis.metrics import Metrics
from services.chassis.server import validation
from services.chassis.server.arrival import opening
from services.chassis.server.deadline import Deadline
from services.chassis.server.errors import Errors
from services.chassis.server.in_flight import InFlight
from services.chassis.server.layer import Context, Layer, Stream, Unary
from services.chassis.server.telemetry import Telemetry
from services.chassis.server.validation import Validation
from services.kernel.clock import Clock

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Servicer = TypeVar("_Servicer")

BEFORE_REPLY: Final = failpoints.site("server.reply.before")

AddToServer = Callable[[_Servicer, Any], None]
"""A generated `add_XServicer_to_server`."""


class Onion:
    """The layers around every handler of one server."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        monotonic = clock.monotonic
        self._monotonic = monotonic
        self.in_flight = InFlight()
        # Outermost first.
        self.layers: tuple[Layer, ...] = (
            Telemetry(metrics, monotonic),  # first in, last out: sees every call with its final code
            Errors(monotonic),  # all that is raised further in becomes a status, refusals of layers included
            Deadline(monotonic),  # before any work: what cannot finish is not begun
            Validation(),  # last: handlers and nothing else may rely on it
        )

    def serve(
        self,
        server: grpc.aio.Server,
        add_to_server: AddToServer[_Servicer],
        servicer: _Servicer,
        *files: FileDescriptor,
    ) -> list[str]:
        """Registers a servicer behind the layers; returns the full names of its services.

        Raises ContractError for a handler that none of these files declares, or of an unsuitable kind.
        """
        registration = _Registration(self, server, contract.by_path(*files))
        add_to_server(servicer, registration)
        return registration.services

    def unary(self, method: Method, handler: Unary) -> Unary:
        """The handler with everything around it."""
        for layer in reversed(self.layers):
            handler = layer.unary(method, handler)
        opened, in_flight = opening(method, self._monotonic), self.in_flight

        async def served(request: Any, context: Context) -> Any:
            in_flight.enter()
            token = set_current(opened(request, context))
            try:
                reply = await handler(request, context)
                await failpoints.areach(BEFORE_REPLY)
            except status.Refused as refused:
                await failpoints.areach(BEFORE_REPLY)
                await _abort(context, refused)
            else:
                return reply
            finally:
                reset_current(token)
                in_flight.leave()

        return served

    def stream(self, method: Method, handler: Stream) -> Unary:
        """The same for a handler of many replies.

        It writes the replies itself instead of being a generator for grpc to walk: so it is cancelled when
        the client leaves, and closes the handler's generator, which else were left to the garbage collector.
        """
        for layer in reversed(self.layers):
            handler = layer.stream(method, handler)
        opened, in_flight = opening(method, self._monotonic), self.in_flight

        async def served(request: Any, context: Context) -> None:
            in_flight.enter()
            token = set_current(opened(request, context))
            try:
                async with aclosing(handler(request, context)) as replies:
                    async for reply in replies:
                        await context.write(reply)
            except status.Refused as refused:
                await _abort(context, refused)
            finally:
                reset_current(token)
                in_flight.leave()

        return served


async def _abort(context: Context, refused: status.Refused) -> None:
    await context.abort(refused.code, refused.status.message, status.trailers(refused.status))


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
