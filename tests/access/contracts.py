"""Every RPC of the house, and a server that has nothing behind its doors but the doors' own keepers."""

import importlib
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import bodega
import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message

from services.chassis import contract
from services.chassis.contract import Method


def files() -> list[FileDescriptor]:
    """The contracts that have services, whichever there are."""
    folder = Path(next(iter(bodega.__path__)))
    modules = sorted(path.relative_to(folder.parent) for path in folder.rglob("*_pb2.py"))
    found = (_descriptor(".".join(module.with_suffix("").parts)) for module in modules)
    return [file for file in found if file.services_by_name]


def methods() -> list[Method]:
    return list(contract.methods(*files()))


def behind_open_doors() -> Iterator[tuple[Callable[[Any, Any], None], None]]:
    """For `serving`: servicers that answer everything with nothing."""
    for file in files():
        for service in file.services_by_name.values():
            made = {found.name: _handler(contract.method(found)) for found in service.methods}
            yield _registering(service.full_name, made), None


def _registering(service: str, handlers: dict[str, Any]) -> Callable[[Any, Any], None]:
    def add_to_server(_servicer: Any, server: Any) -> None:
        server.add_registered_method_handlers(service, handlers)

    return add_to_server


def _handler(method: Method) -> Any:
    async def one(_request: Message, _context: Any) -> Message:
        return method.reply_type()

    async def many(_request: Message, _context: Any) -> AsyncGenerator[Message, None]:
        yield method.reply_type()

    behaviour: Any = many if method.is_stream else one
    make: Any = (
        grpc.unary_stream_rpc_method_handler if method.is_stream else grpc.unary_unary_rpc_method_handler
    )
    return make(
        behaviour,
        request_deserializer=method.request_type.FromString,
        response_serializer=method.reply_type.SerializeToString,
    )


def _descriptor(module: str) -> FileDescriptor:
    descriptor: FileDescriptor = importlib.import_module(module).DESCRIPTOR
    return descriptor
