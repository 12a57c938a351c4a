"""Partial updates by FieldMask (AIP-134): which fields of a message a request replaces."""

from collections.abc import Collection, Iterator
from typing import ClassVar, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from services.kernel.errors import Invalid

_M = TypeVar("_M", bound=Message)


class InvalidMask(Invalid):
    """The update mask names {paths}; what can be changed is {mutable}."""

    field: ClassVar[str] = "update_mask"


def updated(current: _M, wanted: _M, mask: FieldMask, mutable: Collection[str]) -> _M:
    """A copy of `current` in which the masked fields are as in `wanted`: unset too, if they are unset there.

    `mutable` are the paths that may change, such as `username` or `profile.display_name`. A mask may name one
    of them, something inside one, or a message that holds some (which then means those). An empty mask, or
    `*`, means all. Raises InvalidMask, naming every path that is unknown or immutable.
    """
    result = type(current)()
    result.CopyFrom(current)
    for path in paths(mask, current, mutable):
        _replace(result, wanted, path.split("."))
    return result


def paths(mask: FieldMask, message: Message, mutable: Collection[str]) -> list[str]:
    """The paths a mask means, in its order and each once; raises InvalidMask."""
    if not mask.paths or list(mask.paths) == ["*"]:
        return list(mutable)
    refused = []
    meant: dict[str, None] = {}
    for path in mask.paths:
        found = list(_meant(path, message, mutable))
        if not found:
            refused.append(path)
        meant.update(dict.fromkeys(found))
    if refused:
        raise InvalidMask(paths=", ".join(refused), mutable=", ".join(mutable))
    return list(meant)


def _meant(path: str, message: Message, mutable: Collection[str]) -> Iterator[str]:
    if not _exists(path, message):
        return
    if any(_within(path, allowed) for allowed in mutable):
        yield path
    else:
        yield from (allowed for allowed in mutable if _within(allowed, path))


def _within(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.")


def _exists(path: str, message: Message) -> bool:
    kind = message.DESCRIPTOR
    *parents, last = path.split(".")
    for name in parents:
        field = kind.fields_by_name.get(name) if kind else None
        if field is None or field.message_type is None or field.is_repeated:
            return False  # FieldMask leads through messages only, not into lists or maps
        kind = field.message_type
    return kind is not None and last in kind.fields_by_name


def _replace(target: Message, source: Message, parts: list[str]) -> None:
    name, *rest = parts
    if rest:
        _replace(getattr(target, name), getattr(source, name), rest)
        return
    field = target.DESCRIPTOR.fields_by_name[name]
    target.ClearField(name)
    if field.is_repeated:
        getattr(target, name).MergeFrom(getattr(source, name))
    elif field.message_type is not None:
        if source.HasField(name):
            getattr(target, name).CopyFrom(getattr(source, name))
    elif not field.has_presence or source.HasField(name):
        setattr(target, name, getattr(source, name))
