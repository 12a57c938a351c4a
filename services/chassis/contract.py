"""The contract as the running program sees it: every method with the policy its proto declares.

Everything derived from an RPC's options (deadline, retry safety, request ids, HTTP status of a creation)
is read here, once, from the descriptors; there is no second place to configure any of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from bodega.policy.v1 import policy_pb2
from google.protobuf import descriptor, message_factory
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

DEADLINE_DEFAULT_S: Final = 5.0  # for methods of others, whose contract names none
DEADLINE_MAX_S: Final = 60.0  # nobody waits longer for a unary answer
STREAM_DEADLINE_MAX_S: Final = 3600.0  # streams begin anew now and then, perhaps at a replica with more room


class ContractError(Exception):
    """A descriptor says something this program cannot serve; raised at start, never per call."""


@dataclass(frozen=True)
class Method:
    """One RPC and what its contract says about calling it; read from the descriptor once."""

    path: str
    """As on the wire: `/bodega.order.v1.OrderService/CancelOrder`."""

    descriptor: descriptor.MethodDescriptor
    request_type: type[Message]
    reply_type: type[Message]
    policy: policy_pb2.MethodPolicy | None
    """None for methods of other people's contracts."""

    @cached_property
    def name(self) -> str:
        return str(self.descriptor.name)

    @cached_property
    def service(self) -> str:
        """Full name of the service, e.g. `bodega.order.v1.OrderService`."""
        return str(self.descriptor.containing_service.full_name)

    @cached_property
    def is_stream(self) -> bool:
        """Whether it answers with many replies."""
        return bool(self.descriptor.server_streaming)

    @cached_property
    def is_resumable(self) -> bool:
        """Whether a stream goes on where another one ended."""
        return self.policy is not None and bool(self.policy.resume_field)

    @cached_property
    def deadline_s(self) -> float:
        """Seconds a call is given when its caller names no deadline: of a stream, for all its life."""
        if self.policy is not None and self.policy.HasField("deadline"):
            return min(self.policy.deadline.ToTimedelta().total_seconds(), self.deadline_max_s)
        return self.deadline_max_s if self.is_stream else DEADLINE_DEFAULT_S

    @cached_property
    def waits(self) -> bool:
        """Whether it may be answered late although its service is well."""
        return self.policy is not None and self.policy.waits

    @cached_property
    def deadline_max_s(self) -> float:
        """Seconds a call is given at most, whatever anybody says."""
        return STREAM_DEADLINE_MAX_S if self.is_stream else DEADLINE_MAX_S

    @cached_property
    def cache_s(self) -> float:
        """Seconds for which a reply may be served again; 0 is never, as for whatever is no read."""
        if self.policy is None or not self.is_read or self.is_stream:
            return 0.0
        return self.policy.cache.ToTimedelta().total_seconds()

    @cached_property
    def is_same_for_all(self) -> bool:
        """Whether the reply does not depend on who asks."""
        return self.policy is not None and self.policy.access.public and not self.policy.access.roles

    @cached_property
    def is_critical(self) -> bool:
        """Whether it finishes or compensates what somebody paid for."""
        return self.policy is not None and self.policy.priority == policy_pb2.PRIORITY_CRITICAL

    @cached_property
    def is_read(self) -> bool:
        return self._idempotency == MethodOptions.NO_SIDE_EFFECTS

    @cached_property
    def is_idempotent(self) -> bool:
        """Whether calling twice with one request id does no more than calling once."""
        return self._idempotency in (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)

    @cached_property
    def takes_request_id(self) -> bool:
        return "request_id" in self.descriptor.input_type.fields_by_name and not self.is_read

    @cached_property
    def _idempotency(self) -> int:
        return int(self.descriptor.GetOptions().idempotency_level)


def method(found: descriptor.MethodDescriptor) -> Method:
    """Reads one method's contract."""
    options = found.GetOptions()
    return Method(
        path=f"/{found.containing_service.full_name}/{found.name}",
        descriptor=found,
        request_type=message_factory.GetMessageClass(found.input_type),
        reply_type=message_factory.GetMessageClass(found.output_type),
        policy=options.Extensions[policy_pb2.method] if options.HasExtension(policy_pb2.method) else None,
    )


def methods(*files: descriptor.FileDescriptor) -> Iterator[Method]:
    """Every method of every service declared in these files."""
    for file in files:
        for service in file.services_by_name.values():
            for found in service.methods:
                yield method(found)


def by_path(*files: descriptor.FileDescriptor) -> dict[str, Method]:
    """The same, keyed by wire path."""
    return {found.path: found for found in methods(*files)}
