"""`debug_redact`: fields that logs, events and remembered replies must not show.

Protobuf's own `str(message)` ignores the option, so everything that writes a message somewhere asks here.
"""

from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message


def redacted(message: Message) -> Message:
    """The message without its `debug_redact` fields; the message itself if it can have none."""
    if not carries_secrets(message.DESCRIPTOR):
        return message
    copy = type(message)()
    copy.CopyFrom(message)
    _clear(copy)
    return copy


def is_secret(field: FieldDescriptor) -> bool:
    """Whether the contract marks the field `debug_redact`."""
    return bool(field.has_options and field.GetOptions().debug_redact)


@cache
def carries_secrets(kind: Descriptor) -> bool:
    """Whether a message of this kind may hold a `debug_redact` field, however deep."""
    seen: set[str] = set()
    waiting = [kind]
    while waiting:
        found = waiting.pop()
        if found.full_name in seen:
            continue
        seen.add(found.full_name)
        if any(is_secret(field) for field in found.fields):
            return True
        waiting += [field.message_type for field in found.fields if field.message_type is not None]
    return False


def _clear(message: Message) -> None:
    for field, value in message.ListFields():
        if is_secret(field):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in _parts(field, value):
                _clear(part)


def _parts(field: FieldDescriptor, value: object) -> list[Message]:
    if not field.is_repeated:
        return [value]  # type: ignore[list-item]
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        of_messages = kind.fields_by_name["value"].message_type is not None
        return list(value.values()) if of_messages else []  # type: ignore[attr-defined]
    return list(value)  # type: ignore[call-overload,no-any-return]
