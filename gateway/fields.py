"""Field paths of a route, resolved against the request once, at start."""

from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway import scalars, well_known
from gateway.refusals import Mismatch


class BadField(ValueError):
    """A rule names a field that does not exist or cannot stand where it is named."""


@dataclass(frozen=True, slots=True)
class TextField:
    """A field that takes its value from text: a path's variable or a query parameter."""

    path: str
    parents: tuple[str, ...]
    leaf: FieldDescriptor
    convert: scalars.Convert | None
    """None: a well-known type, read by `read`."""

    read: well_known.Read | None

    def parent(self, message: Any) -> Any:
        for name in self.parents:
            message = getattr(message, name)
        return message

    def put(self, message: Any, text: str) -> None:
        """Sets the field. Raises Mismatch."""
        parent = self.parent(message)
        if self.convert is not None:
            setattr(parent, self.leaf.name, self.convert(text))
        elif self.read is not None:
            below = getattr(parent, self.leaf.name)
            below.SetInParent()
            self.read(below, text)

    def put_all(self, message: Any, texts: list[str]) -> None:
        """Sets a repeated field. Raises Mismatch."""
        values = getattr(self.parent(message), self.leaf.name)
        if self.convert is not None:
            values.extend([self.convert(text) for text in texts])
        elif self.read is not None:
            for text in texts:
                self.read(values.add(), text)

    def put_beside_body(self, message: Any, text: str) -> None:
        """Sets the field, which the body may have set: to the same, or the request contradicts itself."""
        parent = self.parent(message)
        before = _copied(getattr(parent, self.leaf.name)) if _is_set(parent, self.leaf) else None
        self.put(message, text)
        if before is not None and before != getattr(parent, self.leaf.name):
            raise Mismatch("differs between path and body")


def _is_set(parent: Any, field: FieldDescriptor) -> bool:
    return bool(parent.HasField(field.name) if field.has_presence else getattr(parent, field.name))


def _copied(value: Any) -> Any:
    return type(value).FromString(value.SerializeToString()) if isinstance(value, Message) else value


def resolve(message: Descriptor, path: str, *, by_json_name: bool = False) -> TextField:
    """The field at a path of names. Raises BadField with the reason."""
    *parents, last = path.split(".")
    names = []
    for name in parents:
        field = _named(message, name, by_json_name=by_json_name)
        if field.message_type is None or field.is_repeated or well_known.reader(field.message_type):
            raise BadField(f"{path}: {name} has no fields of its own to name")
        names.append(field.name)
        message = field.message_type
    leaf = _named(message, last, by_json_name=by_json_name)
    if leaf.message_type is None:
        return TextField(".".join((*names, leaf.name)), tuple(names), leaf, scalars.from_text(leaf), None)
    read = well_known.text_reader(leaf.message_type)
    if read is None:
        raise BadField(f"{path} is a message or a map; only its fields can be given as text")
    return TextField(".".join((*names, leaf.name)), tuple(names), leaf, None, read)


def variable(message: Descriptor, path: str) -> TextField:
    """The field that a path's variable sets. Raises BadField."""
    found = resolve(message, path)
    if found.leaf.is_repeated:
        raise BadField(f"{path} is repeated; a path's variable has one value")
    return found


def top_level(message: Descriptor, name: str, what: str) -> FieldDescriptor:
    """The field that is a body. Raises BadField."""
    field = message.fields_by_name.get(name)
    if field is None:
        raise BadField(f"{what} names {name!r}, which is no field of {message.full_name}")
    return field


def _named(message: Descriptor, name: str, *, by_json_name: bool) -> FieldDescriptor:
    field = message.fields_by_name.get(name)
    if field is None and by_json_name:
        field = next((field for field in message.fields if field.json_name == name), None)
    if field is None:
        raise BadField(f"{message.full_name} has no field {name!r}")
    return field
