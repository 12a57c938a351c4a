"""The client onion: what an outgoing call goes through, and `connect`.

As on the server, layers are composed once per method, here when a stub is made. (There is no async client
interceptor that could host them in one call: grpc's own run a chain of wrapped call objects each time.)
"""

import asyncio
import random as system_random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf.descriptor import FileDescriptor

from services.chassis import contract, failpoints
from services.chassis.client import balancing, played
from services.chassis.client.breaker import Breaker
from services.chassis.client.bulkhead import Bulkhead
from services.chassis.client.deadline import Deadline, budget_s, spent
from services.chassis.client.dropped import dropped
from services.chassis.client.fallback import Fallback
from services.chassis.client.inherited import Inherited, inherited
from services.chassis.client.layer import Layer, Outgoing, Send
from services.chassis.client.line import Line
from services.chassis.client.request_id import RequestId
from services.chassis.client.retry import Retry
from services.chassis.client.telemetry import Telemetry
from services.chassis.contract import ContractError, Method
from services.chassis.identity.workload import workload_serving
from services.chassis.metrics import Metrics
from services.chassis.policy import circuit
from services.chassis.policy.budget import RetryBudget
from services.chassis.policy.circuit import Limits
from services.chassis.tls import TlsFiles
from services.kernel.clock import Clock, SystemClock
from services.kernel.ids import Ids, TimeOrderedIds

MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024

_OPTIONS: Final = (
    ("grpc.enable_retries", 0),  # one layer retries, and it is ours: it knows the contract
    ("grpc.service_config_disable_resolution", 1),  # nor may DNS bring in policies
    ("grpc.enable_http_proxy", 0),  # neighbours are not on the internet
    ("grpc.use_local_subchannel_pool", 1),  # the channel's state is its own
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
)


def options(target: str) -> tuple[tuple[str, Any], ...]:
    """grpc's, for a channel to a neighbour."""
    return (*_OPTIONS, *balancing.of_ours(target))


def connect(
    target: str,
    *files: FileDescriptor,
    tls: TlsFiles | None = None,
    workload: str = "",
    metrics: Metrics | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    random: Callable[[], float] = system_random.random,
    circuits: Limits = circuit.DEFAULT,
) -> "Channel":
    """A channel for the stubs of the services declared in `files`. Make one per target, in the event loop.

    The target may name several replicas, `ipv4:host:port,…` or `dns:///host:port`: see `balancing`.

    `tls` says who we are; then the target must be a mesh port of the workload that these services belong to,
    or of `workload`, where several serve them. Without it calls are in plaintext, and only to this machine.
    Raises TlsRefused, see `Line`.

    Calls raise grpc.aio.AioRpcError; `status.reason` tells why. Cancelling the task that awaits a call
    cancels the call. `timeout=` asks for more or less time than the contract gives, but never gets more than
    the current request has left.
    """
    clock = clock or SystemClock()
    metrics = metrics or Metrics()
    retries = metrics.retries
    # Outermost first.
    layers: tuple[Layer, ...] = (
        Telemetry(metrics, clock.monotonic),  # a call is one call, whatever happens within
        Inherited(),  # before retry: attempts are one span
        RequestId(ids or TimeOrderedIds(clock)),  # before retry: attempts are one request
        Deadline(clock.monotonic),  # before retry: attempts share one deadline
        Fallback(metrics, clock.monotonic),  # before whatever may refuse or fail
        Breaker(target, metrics, clock.monotonic, circuits),  # before retry: what it refuses is final
        Bulkhead(target, metrics),  # after the breaker: what it refuses needs no room
        Retry(
            RetryBudget(),
            monotonic=clock.monotonic,
            sleep=sleep,
            random=random,
            on_retry=lambda method: retries.labels(method.service, method.name).inc(),
        ),
    )
    line = Line(target, options(target), files=tls, workload=(workload or _workload(files)) if tls else "")
    return Channel(line, layers, contract.by_path(*files), clock)


class Channel(grpc.aio.Channel):
    """What generated stubs call through. Close it, or use it as an async context manager."""

    def __init__(
        self,
        line: Line,
        layers: tuple[Layer, ...],
        methods: dict[str, Method],
        clock: Clock,
    ) -> None:
        self.target = line.target
        self._line = line
        self._layers = layers
        self._methods = methods
        self._clock = clock
        self._monotonic = clock.monotonic

    @property
    def raw(self) -> grpc.aio.Channel:
        """The grpc channel that carries calls at the moment."""
        return self._line.raw

    def without_retries(self) -> "Channel":
        """The same connection for callers who repeat calls themselves: only one layer may."""
        layers = tuple(layer for layer in self._layers if not isinstance(layer, Retry))
        return Channel(self._line, layers, self._methods, self._clock)

    def unary_unary(  # type: ignore[override]  # returns plain awaitables, not grpc's call objects
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = None,  # noqa: FBT001 (generated code passes it)
    ) -> Callable[..., Awaitable[Any]]:
        declared = self._declared(method)
        wire = self._line.unary_unary(method, request_serializer, response_deserializer)
        send = _wire(declared, wire, self._monotonic)
        for layer in reversed(self._layers):
            send = layer.around(declared, send)

        def call(
            request: Any,
            *,
            timeout: float | None = None,
            metadata: Any = None,
        ) -> Awaitable[Any]:
            return send(Outgoing(request, tuple(metadata or ()), timeout))

        return call

    def unary_stream(  # type: ignore[override]
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = None,  # noqa: FBT001
    ) -> Callable[..., grpc.aio.UnaryStreamCall[Any, Any]]:
        """Streams are traced, and end with the current request, or when old; who reads one resumes it then.

        They are no span of their own: their server's says it all.
        """
        declared = self._declared(method)
        wire = self._line.unary_stream(method, request_serializer, response_deserializer)

        def call(
            request: Any, *, timeout: float | None = None, metadata: Any = None
        ) -> grpc.aio.UnaryStreamCall[Any, Any]:
            max_s = declared.deadline_max_s
            given_s = budget_s(max_s if timeout is None else min(timeout, max_s), self._monotonic())
            if given_s <= 0:
                raise spent(declared)
            stream: grpc.aio.UnaryStreamCall[Any, Any] = wire(
                request,
                timeout=given_s,
                metadata=(*(metadata or ()), *inherited(is_span=False)),
            )
            return stream

        return call

    def stream_unary(self, method: str, *_: Any, **__: Any) -> Any:
        raise ContractError(f"{method}: no service here takes a stream")

    stream_stream = stream_unary

    async def close(self, grace: float | None = None) -> None:
        await self._line.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002
        return self._line.get_state(try_to_connect=try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._line.raw.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._line.raw.channel_ready()

    def _declared(self, path: str) -> Method:
        method = self._methods.get(path)
        if method is None:
            raise ContractError(f"{path} is called but not declared in the files given to connect()")
        return method


def _workload(files: tuple[FileDescriptor, ...]) -> str:
    found = {workload_serving(f"{file.package}.") for file in files}
    if len(found) != 1:
        raise ContractError(f"no single workload answers for {', '.join(file.name for file in files)}")
    return found.pop()


def _wire(method: Method, wire: Callable[..., Awaitable[Any]], monotonic: Callable[[], float]) -> Send:
    async def sent(call: Outgoing) -> Any:
        if failpoints.are_on():
            await played.reach(played.BEFORE_SEND, method, within_s=call.deadline - monotonic())
        timeout_s = max(call.deadline - monotonic(), 0.0)
        try:
            reply = await wire(call.request, timeout=timeout_s, metadata=call.metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.CANCELLED:
                raise dropped(error) from error
            raise
        if failpoints.are_on():
            await played.reach(played.AFTER_REPLY, method, within_s=call.deadline - monotonic())
        return reply

    return sent
