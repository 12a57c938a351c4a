"""What a message is about: its ids and choices, which may be written down where its content may not."""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.chassis.redaction import is_secret

NAMED_MAX: Final = 16  # no request of ours names more
CHARS_MAX: Final = 64  # a UUID has 36
DEPTH_MAX: Final = 3  # `user.user_id` is two deep

_SEPARATOR: Final = ","
_REQUEST_ID: Final = "request_id"  # it names the request, not what that is about


def subject(message: Message) -> dict[str, str]:
    """The ids and enum values of a message, by the path of their field: `user.user_id`, `role`.

    Ids are text fields named `…_id`, or `…_ids` where there are several. What the contract marks
    `debug_redact` is left out, with everything in it, and so are messages in lists.
    """
    return dict(_named(message, "", DEPTH_MAX))


def _named(message: Message, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    left = NAMED_MAX
    for field, value in message.ListFields():
        if is_secret(field) or left <= 0:
            continue
        if field.message_type is not None:
            if depth > 1 and not field.is_repeated:
                yield from _named(value, f"{prefix}{field.name}.", depth - 1)
            continue
        if shown := _shown(field, value):
            left -= 1
            yield f"{prefix}{field.name}", shown


def _shown(field: FieldDescriptor, value: Any) -> str:
    """Empty for what is neither an id nor a choice."""
    values = list(value[:NAMED_MAX]) if field.is_repeated else [value]
    if field.enum_type is not None:
        names = field.enum_type.values_by_number
        return _SEPARATOR.join(names[one].name if one in names else str(one) for one in values)
    if field.type == FieldDescriptor.TYPE_STRING and _is_id(field.name):
        return _SEPARATOR.join(one[:CHARS_MAX] for one in values)
    return ""


def _is_id(name: str) -> bool:
    return name.endswith(("_id", "_ids")) and name != _REQUEST_ID
