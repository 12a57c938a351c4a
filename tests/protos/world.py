"""Compiled protos with their comments, for rules to walk over."""

import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClassesForFiles

ROOT = Path(__file__).parents[2]
BUILD_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class World:
    """Some proto files of ours."""

    files: tuple[FileDescriptor, ...]
    comments: dict[str, str]
    """Leading comments by full name; an enum's value by `<enum>.<VALUE>`."""

    def services(self) -> Iterator[ServiceDescriptor]:
        for file in self.files:
            yield from file.services_by_name.values()

    def methods(self) -> Iterator[MethodDescriptor]:
        for service in self.services():
            yield from service.methods

    def messages(self) -> Iterator[Descriptor]:
        """Every message, nested ones behind those that hold them; entries of maps left out."""
        for file in self.files:
            yield from _nested(list(file.message_types_by_name.values()))

    def fields(self) -> Iterator[FieldDescriptor]:
        for message in self.messages():
            yield from message.fields

    def enums(self) -> Iterator[EnumDescriptor]:
        for file in self.files:
            yield from file.enum_types_by_name.values()
        for message in self.messages():
            yield from message.enum_types

    def owns(self, message: Descriptor) -> bool:
        return any(message.file.name == file.name for file in self.files)


def built_by_buf(folder: Path) -> World:
    """All protos of the house. Comments are in descriptors only when they are built with source info."""
    out = folder / "api.binpb"
    buf = Path(sysconfig.get_path("scripts")) / "buf"  # of this Python's environment, whatever PATH says
    subprocess.run(
        [str(buf), "build", "--as-file-descriptor-set", "-o", str(out)],
        cwd=ROOT,
        check=True,
        timeout=BUILD_TIMEOUT_S,
    )
    return _world(FileDescriptorSet.FromString(out.read_bytes()), ours="bodega/")


def compiled(text: str, folder: Path, name: str = "bodega/shop/v1/shop.proto") -> World:
    """One proto file from its text, beside our policy and the third parties'."""
    from grpc_tools import protoc

    source, out = folder / name, folder / "one.binpb"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text)
    imports = (folder, ROOT / "protos", *sorted((ROOT / "protos/third_party").iterdir()), _well_known())
    code = protoc.main(
        [
            "protoc",
            *(f"-I{path}" for path in imports),
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={out}",
            name,
        ]
    )
    assert code == 0, "the text is not a proto"
    return _world(FileDescriptorSet.FromString(out.read_bytes()), ours=name)


def _well_known() -> Path:
    import grpc_tools

    return Path(grpc_tools.__path__[0]) / "_proto"


def _world(files: FileDescriptorSet, *, ours: str) -> World:
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    chosen = [file for file in files.file if file.name.startswith(ours)]
    GetMessageClassesForFiles([file.name for file in chosen], pool)
    comments = {name: text for file in chosen for name, text in _comments(file)}
    return World(tuple(pool.FindFileByName(file.name) for file in chosen), comments)


def _nested(messages: Sequence[Descriptor]) -> Iterator[Descriptor]:
    for message in messages:
        if not message.GetOptions().map_entry:
            yield message
            yield from _nested(message.nested_types)


# Field numbers in descriptor.proto, which is how source info names places.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE, _FILE_EXTENSION = 4, 5, 6, 7
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_SERVICE_METHOD, _ENUM_VALUE = 2, 2
_Path = tuple[int, ...]


def _comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    said = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
    for path, name in _places(file):
        yield name, said.get(path, "")


def _places(file: FileDescriptorProto) -> Iterator[tuple[_Path, str]]:
    for index, message in enumerate(file.message_type):
        yield from _in_message(message, (_FILE_MESSAGE, index), file.package)
    for index, enum in enumerate(file.enum_type):
        yield from _in_enum(enum, (_FILE_ENUM, index), file.package)
    for index, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        yield (_FILE_SERVICE, index), name
        for number, method in enumerate(service.method):
            yield (_FILE_SERVICE, index, _SERVICE_METHOD, number), f"{name}.{method.name}"


def _in_message(message: DescriptorProto, path: _Path, scope: str) -> Iterator[tuple[_Path, str]]:
    if message.options.map_entry:
        return
    name = f"{scope}.{message.name}"
    yield path, name
    fields: Sequence[FieldDescriptorProto] = message.field
    for index, field in enumerate(fields):
        yield (*path, _MESSAGE_FIELD, index), f"{name}.{field.name}"
    for index, nested in enumerate(message.nested_type):
        yield from _in_message(nested, (*path, _MESSAGE_NESTED, index), name)
    for index, enum in enumerate(message.enum_type):
        yield from _in_enum(enum, (*path, _MESSAGE_ENUM, index), name)


def _in_enum(enum: EnumDescriptorProto, path: _Path, scope: str) -> Iterator[tuple[_Path, str]]:
    name = f"{scope}.{enum.name}"
    yield path, name
    for index, value in enumerate(enum.value):
        yield (*path, _ENUM_VALUE, index), f"{name}.{value.name}"
