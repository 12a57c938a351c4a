"""What an API key can be good for: `order:read`, `inventory:write` and so on, read from the contracts."""

from importlib import resources
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from services.chassis import contract
from services.chassis.policy import access

_CONTRACTS: Final = "api.binpb"  # every contract of the house, as `make gen` leaves them


def known() -> frozenset[str]:
    """The scopes of every method of every service of the house that some user may call."""
    content = resources.files("bodega").joinpath(_CONTRACTS).read_bytes()
    pool = DescriptorPool()
    files = [
        pool.AddSerializedFile(file.SerializeToString())
        for file in FileDescriptorSet.FromString(content).file
    ]
    ours = [file for file in files if file.package.startswith("bodega.")]
    methods = [method for method in contract.methods(*ours) if access.is_for_users(method)]
    return frozenset(access.scope(method) for method in methods)
