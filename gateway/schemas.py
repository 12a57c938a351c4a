"""Message types as JSON Schema (2020-12), as the proto3 JSON mapping prints and reads them."""

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway import constraints, well_known
from gateway.comments import Comments
from gateway.constraints import Schema
from gateway.decode import map_entry

_PREFIX: Final = "#/components/schemas/"
_NOT_FINITE: Final = {"enum": ["NaN", "Infinity", "-Infinity"]}
_SCALARS: Final[dict[int, Schema]] = {
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    FieldDescriptor.CPPTYPE_INT64: {"type": ["string", "integer"], "format": "int64"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": ["string", "integer"], "format": "uint64", "minimum": 0},
    FieldDescriptor.CPPTYPE_FLOAT: {"anyOf": [{"type": "number", "format": "float"}, _NOT_FINITE]},
    FieldDescriptor.CPPTYPE_DOUBLE: {"anyOf": [{"type": "number", "format": "double"}, _NOT_FINITE]},
}
_BYTES: Final[Schema] = {"type": "string", "contentEncoding": "base64"}
_WELL_KNOWN: Final[dict[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {
        "type": "string",
        "description": "Field paths in lowerCamelCase, separated by commas.",
    },
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Empty": {"type": "object"},
    well_known.ANY: {
        "type": "object",
        "properties": {"@type": {"type": "string", "description": "Names the type of what is here."}},
        "required": ["@type"],
    },
}


class Schemas:
    """Schemas of types, and the components that they refer to."""

    def __init__(self, comments: Comments, replied: Iterable[Descriptor] = ()) -> None:
        """`replied`: types of replies. What they are made of lacks fields that are unset, so that nothing in
        them is called required, even where a request needs it.
        """
        self._comments = comments
        self._replied = {kind.full_name for kind in reachable(replied)}
        self._components: dict[str, Schema] = {}

    def components(self) -> dict[str, Schema]:
        """Everything referred to so far, sorted."""
        return dict(sorted(self._components.items()))

    def message(self, kind: Descriptor) -> Schema:
        """A message of this type."""
        if (known := _well_known(kind)) is not None:
            return known
        if kind.full_name not in self._components:
            self._components[kind.full_name] = {}  # before its fields: types may contain themselves
            is_replied = kind.full_name in self._replied
            self._components[kind.full_name] = self.fields(kind, without=(), partial=is_replied)
        return {"$ref": _PREFIX + kind.full_name}

    def fields(self, kind: Descriptor, *, without: Collection[str], partial: bool) -> Schema:
        """The fields of a message in place, less some. `partial`: none of them is called required."""
        kept = [field for field in kind.fields if field.name not in without]
        schema: Schema = {"type": "object", "properties": {f.json_name: self.field(f) for f in kept}}
        required = [] if partial else [field.json_name for field in kept if is_required(field)]
        if required:
            schema["required"] = required
        if text := self._comments.of(kind.full_name).text:
            schema["description"] = text
        return schema

    def field(self, field: FieldDescriptor) -> Schema:
        """The value of a field, with its comment and its rules."""
        schema = self.value(field)
        if _behaviors(field) & {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER}:
            schema["readOnly"] = True
        if field.GetOptions().deprecated:
            schema["deprecated"] = True
        if text := self._words(field):
            schema["description"] = text
        return schema

    def value(self, field: FieldDescriptor) -> Schema:
        """The value of a field without words."""
        rules = constraints.rules_of(field)
        whole = {} if rules is None else constraints.keywords(rules, field.enum_type)
        entry = map_entry(field)
        if entry is not None:
            values = self._single(entry.fields_by_name["value"])
            if rules is not None and rules.map.HasField("values"):
                values |= constraints.keywords(rules.map.values, entry.fields_by_name["value"].enum_type)
            return {"type": "object", "additionalProperties": values} | whole
        if not field.is_repeated:
            return _limited(self._single(field), whole)
        items = self._single(field)
        if rules is not None and rules.repeated.HasField("items"):
            items = _limited(items, constraints.keywords(rules.repeated.items, field.enum_type))
        return {"type": "array", "items": items} | whole

    def _single(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return dict(self.message(field.message_type))
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return dict(_BYTES)
        return dict(_SCALARS[field.cpp_type])

    def _enum(self, enum: EnumDescriptor) -> Schema:
        if enum.full_name == "google.protobuf.NullValue":
            return {"type": "null"}
        if enum.full_name not in self._components:
            schema: Schema = {"type": "string", "enum": [value.name for value in enum.values]}
            lines = [
                f"- `{value.name}`: {comment.summary}"
                for value in enum.values
                if (comment := self._comments.of(f"{enum.full_name}.{value.name}")).text
            ]
            said = self._comments.of(enum.full_name).text
            if text := "\n\n".join(filter(None, (said, "\n".join(lines)))):
                schema["description"] = text
            self._components[enum.full_name] = schema
        return {"$ref": _PREFIX + enum.full_name}

    def _words(self, field: FieldDescriptor) -> str:
        words = [self._comments.of(field.full_name).text]
        oneof = field.containing_oneof
        if oneof is not None and len(oneof.fields) > 1:  # `optional` makes a oneof of one
            names = ", ".join(f"`{other.json_name}`" for other in oneof.fields)
            words.append(f"At most one of {names}.")
        rules = constraints.rules_of(field)
        if rules is not None:
            words += [f"Rule: {saying}." for saying in constraints.sayings(rules)]
        return "\n\n".join(filter(None, words))


def is_required(field: FieldDescriptor) -> bool:
    """Whether a request without this field is refused."""
    rules = constraints.rules_of(field)
    if rules is not None and constraints.refuses_absence(field, rules):
        return True
    return field_behavior_pb2.REQUIRED in _behaviors(field)


def reachable(roots: Iterable[Descriptor]) -> Iterator[Descriptor]:
    """These types and everything they are made of, each once."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        kind = waiting.pop()
        if kind.full_name not in seen:
            seen.add(kind.full_name)
            yield kind
            waiting += [field.message_type for field in kind.fields if field.message_type is not None]


def _limited(schema: Schema, rules: Schema) -> Schema:
    """A schema with rules beside it; a choice of names replaces the reference to all of them."""
    if "$ref" in schema and "enum" in rules:
        return {"type": "string", **rules}
    return schema | rules


def _well_known(kind: Descriptor) -> Schema | None:
    if kind.full_name in _WELL_KNOWN:
        return dict(_WELL_KNOWN[kind.full_name])
    if kind.full_name == well_known.HTTP_BODY:
        return {}
    if kind.full_name.startswith("google.protobuf.") and kind.full_name.endswith("Value"):
        inner = kind.fields_by_name["value"]
        bare = _BYTES if inner.type == FieldDescriptor.TYPE_BYTES else _SCALARS[inner.cpp_type]
        return {"anyOf": [bare, {"type": "null"}]}
    return None


def _behaviors(field: FieldDescriptor) -> set[int]:
    if not field.has_options:
        return set()
    return set(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])
