"""The update mask of a PATCH that sent none: the fields its body names.

AIP-134 leaves the implied mask to the server; like grpc-gateway we take it from the body's keys, to the
innermost, so that `{"profile": {"locale": "de"}}` changes one field and not its neighbours.
"""

from collections.abc import Callable, Collection
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway import well_known
from gateway.decode import has_json_form_of_its_own
from gateway.refusals import Violation, Violations

Paths = Callable[[Any], list[str]]

# What a client got and sends back with its change is no wish to change it.
_NOT_FOR_CLIENTS = {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER}


def mask_field(request: Descriptor) -> str | None:
    """The request's only top-level FieldMask; None if there is none, or a choice."""
    masks = [
        field.name
        for field in request.fields
        if field.message_type is not None
        and field.message_type.full_name == well_known.FIELD_MASK
        and not field.is_repeated
    ]
    return masks[0] if len(masks) == 1 else None


def paths_of(resource: Descriptor, *, except_for: Collection[str]) -> Paths:
    """The mask paths of a JSON body that has been decoded as this resource.

    `except_for`: paths that are no part of the change, such as the one in the URL. Raises Violations if
    nothing is left: an empty mask would mean "everything".
    """
    left_out = frozenset((*except_for, "etag"))  # AIP-154: the etag guards the change, it is none

    def paths(document: Any) -> list[str]:
        found = [path for path in _paths(resource, document) if path not in left_out]
        if not found:
            raise Violations([Violation("", "must name at least one field to change")])
        return found

    return paths


def _paths(message: Descriptor, document: dict[str, Any]) -> list[str]:
    found = []
    for field in message.fields:
        key = field.json_name if field.json_name in document else field.name
        if key not in document or _NOT_FOR_CLIENTS & set(_behaviors(field)):
            continue
        below = document[key]
        plain = _plain(field)
        nested = _paths(plain, below) if below and plain is not None else []
        found += [f"{field.name}.{path}" for path in nested] or [field.name]
    return found


def _behaviors(field: FieldDescriptor) -> Collection[int]:
    if not field.has_options:
        return ()
    behaviors: Collection[int] = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return behaviors


def _plain(field: FieldDescriptor) -> Descriptor | None:
    """The message type whose fields have paths of their own."""
    kind = field.message_type
    if kind is None or field.is_repeated or has_json_form_of_its_own(kind):
        return None
    return kind
