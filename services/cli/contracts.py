"""The installed contracts as one descriptor set, which is all that the gateway wants to know."""

from importlib import resources
from itertools import chain
from typing import Final

from bodega.inventory.v1 import inventory_pb2
from bodega.notification.v1 import notification_pb2
from bodega.order.v1 import order_pb2
from bodega.payment.v1 import payment_pb2
from bodega.user.v1 import api_key_pb2, session_pb2, user_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2

FILES: Final[dict[str, tuple[FileDescriptor, ...]]] = {
    "user": (user_pb2.DESCRIPTOR, session_pb2.DESCRIPTOR, api_key_pb2.DESCRIPTOR),
    "inventory": (inventory_pb2.DESCRIPTOR,),
    "order": (order_pb2.DESCRIPTOR,),
    "payment": (payment_pb2.DESCRIPTOR,),
    "notification": (notification_pb2.DESCRIPTOR,),
}
"""The files that declare each service's RPCs."""


def descriptor_set() -> bytes:
    """A serialized FileDescriptorSet of all of them, each file after what it imports."""
    made = FileDescriptorSet()
    seen: set[str] = set()
    # The details of errors are in no RPC's signature, and clients want to see them as JSON all the same.
    for file in (*chain.from_iterable(FILES.values()), error_details_pb2.DESCRIPTOR):
        _add(file, made, seen)
    _comment(made)
    return bytes(made.SerializeToString(deterministic=True))


def service_names(name: str) -> list[str]:
    """Full names of the gRPC services that one of our services offers."""
    return [found.full_name for file in FILES[name] for found in file.services_by_name.values()]


def _add(file: FileDescriptor, made: FileDescriptorSet, seen: set[str]) -> None:
    if file.name in seen:
        return
    seen.add(file.name)
    for imported in file.dependencies:
        _add(imported, made, seen)
    file.CopyToProto(made.file.add())


def _comment(made: FileDescriptorSet) -> None:
    """Adds the comments, which modules do not carry, from the set that `make gen` keeps beside them.

    The modules are what the services speak; a file that has changed since stays without comments.
    """
    kept = resources.files("bodega").joinpath("api.binpb")
    if not kept.is_file():
        return
    commented = {file.name: file for file in FileDescriptorSet.FromString(kept.read_bytes()).file}
    for file in made.file:
        found = commented.get(file.name)
        if found is not None and _bare(found) == _bare(file):
            file.source_code_info.CopyFrom(found.source_code_info)


def _bare(file: FileDescriptorProto) -> bytes:
    bare = FileDescriptorProto()
    bare.CopyFrom(file)
    bare.ClearField("source_code_info")
    return bare.SerializeToString(deterministic=True)
