"""What a contract's authors wrote beside its parts.

A descriptor set has the comments if it was built with source info (`buf build --as-file-descriptor-set`,
`protoc --include_source_info`); without it everything here is empty.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

Path = tuple[int, ...]

_MESSAGES: Final = FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER
_ENUMS: Final = FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER
_SERVICES: Final = FileDescriptorProto.SERVICE_FIELD_NUMBER
_METHODS: Final = ServiceDescriptorProto.METHOD_FIELD_NUMBER
_FIELDS: Final = DescriptorProto.FIELD_FIELD_NUMBER
_NESTED: Final = DescriptorProto.NESTED_TYPE_FIELD_NUMBER
_NESTED_ENUMS: Final = DescriptorProto.ENUM_TYPE_FIELD_NUMBER
_VALUES: Final = EnumDescriptorProto.VALUE_FIELD_NUMBER


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment as its reader wants it."""

    text: str

    @property
    def summary(self) -> str:
        """The first paragraph, in one line."""
        return " ".join(self.text.partition("\n\n")[0].split())

    @property
    def rest(self) -> str:
        """What follows it."""
        return self.text.partition("\n\n")[2]


class Comments:
    """Comments by full name."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._by_name: dict[str, Comment] = {}
        for file in files:
            texts = {
                tuple(location.path): location.leading_comments or location.trailing_comments
                for location in file.source_code_info.location
            }
            for path, name in _names(file):
                if text := texts.get(path, ""):
                    self._by_name[name] = Comment(_plain(text))

    def of(self, full_name: str) -> Comment:
        """Of a service, method, message, field, enum or value; empty if there is none."""
        return self._by_name.get(full_name, _NONE)


_NONE: Final = Comment("")


def _plain(text: str) -> str:
    return "\n".join(line.removeprefix(" ").rstrip() for line in text.splitlines()).strip()


def _names(file: FileDescriptorProto) -> Iterator[tuple[Path, str]]:
    package = file.package
    yield from _of_messages((_MESSAGES,), package, file.message_type)
    yield from _of_enums((_ENUMS,), package, file.enum_type)
    for path, name, service in _each((_SERVICES,), package, file.service):
        yield path, name
        yield from ((below, full) for below, full, _ in _each((*path, _METHODS), name, service.method))


def _of_messages(path: Path, scope: str, messages: Sequence[DescriptorProto]) -> Iterator[tuple[Path, str]]:
    for at, name, message in _each(path, scope, messages):
        yield at, name
        yield from ((below, full) for below, full, _ in _each((*at, _FIELDS), name, message.field))
        yield from _of_messages((*at, _NESTED), name, message.nested_type)
        yield from _of_enums((*at, _NESTED_ENUMS), name, message.enum_type)


def _of_enums(path: Path, scope: str, enums: Sequence[EnumDescriptorProto]) -> Iterator[tuple[Path, str]]:
    for at, name, enum in _each(path, scope, enums):
        yield at, name
        # By their enum's name, unlike in the language: values of two enums must not be confused here.
        yield from ((below, full) for below, full, _ in _each((*at, _VALUES), name, enum.value))


def _each(path: Path, scope: str, parts: Sequence[Any]) -> Iterator[tuple[Path, str, Any]]:
    for index, part in enumerate(parts):
        yield (*path, index), f"{scope}.{part.name}" if scope else part.name, part
