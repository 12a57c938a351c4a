"""What looks right is right: the looks at plain rules are held against the validator, who is the judge."""

import random
from collections.abc import Iterator
from itertools import chain
from typing import Any

import protovalidate
import pytest
from google.protobuf import descriptor_pool, message_factory, text_format, wrappers_pb2  # noqa: F401
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message

from services.chassis.server import plain_rules
from services.cli import contracts
from tests.load import messages

VALIDATOR = protovalidate.Validator()
TRIES = 100
STEPS = 30

UUID = "0199a1b2-0000-7000-8000-000000000001"
TEXTS = (
    *(
        "",
        UUID,
        UUID.upper(),
        UUID[:-1],
        UUID + "\n",
        UUID + UUID,
        "USD",
        "USD\n",
        "usd",
        "US",
        "a",
        "b",
        "ab",
    ),
    *("en-US", "order:read", "+491701234567", "x" * 33, "x" * 300, "é", "\0", "a b", " a", "A-1", "a@b.com"),
)
NUMBERS = (0, 1, -1, 2, 5, 7, 10, 11, 100, 101, 1000, 10_000, 999_999_999, 1_000_000_000, 2**31 - 1, -(2**31))

ODD = """
name: "odd.proto" package: "odd" syntax: "proto3"
dependency: "buf/validate/validate.proto" dependency: "google/protobuf/wrappers.proto"
enum_type { name: "Mood" value { name: "NONE" number: 0 } value { name: "GOOD" number: 1 }
            value { name: "BAD" number: 2 } }
message_type {
  name: "Inner"
  field { name: "between" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "outer" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "text" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "inner" number: 4 type: TYPE_MESSAGE type_name: ".odd.Inner" label: LABEL_OPTIONAL }
  field { name: "boxed" number: 6 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value"
          label: LABEL_OPTIONAL }
  field { name: "short" number: 5 type: TYPE_STRING label: LABEL_OPTIONAL
          options { [buf.validate.field] { string { max_len: 4 } } } }
}
message_type {
  name: "Odd"
  field { name: "outside" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL
          options { [buf.validate.field] { int32 { gt: 10 lt: 5 } } } }
  field { name: "outside_or_on" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL
          options { [buf.validate.field] { int64 { gte: 10 lte: 5 } } } }
  field { name: "between" number: 3 type: TYPE_INT64 label: LABEL_OPTIONAL
          options { [buf.validate.field] { int64 { gte: -1 lt: 100 not_in: 7 } } } }
  field { name: "unset" number: 4 type: TYPE_INT32 label: LABEL_OPTIONAL proto3_optional: true oneof_index: 1
          options { [buf.validate.field] { int32 { gt: 0 } } } }
  field { name: "unset_or_zero" number: 5 type: TYPE_INT32 label: LABEL_OPTIONAL proto3_optional: true
          oneof_index: 2 options { [buf.validate.field] { ignore: IGNORE_IF_ZERO_VALUE int32 { gt: 10 } } } }
  field { name: "zero_or" number: 6 type: TYPE_STRING label: LABEL_OPTIONAL
          options { [buf.validate.field] { ignore: IGNORE_IF_ZERO_VALUE string { min_len: 3 max_len: 3 } } } }
  field { name: "needed" number: 7 type: TYPE_STRING label: LABEL_OPTIONAL
          options { [buf.validate.field] { required: true } } }
  field { name: "needed_like" number: 8 type: TYPE_MESSAGE type_name: ".odd.Inner" label: LABEL_OPTIONAL
          options { [buf.validate.field] { required: true
            cel { id: "one" expression: "this.between >= 1 && this.between <= 7 || this.outer == 11" } } } }
  field { name: "alternatives" number: 9 type: TYPE_STRING label: LABEL_OPTIONAL
          options { [buf.validate.field] { string { pattern: "^a|b$" } } } }
  field { name: "moods" number: 10 type: TYPE_ENUM type_name: ".odd.Mood" label: LABEL_REPEATED
          options { [buf.validate.field] { repeated { max_items: 2
            items { enum { defined_only: true not_in: 0 } } } } } }
  field { name: "mood" number: 11 type: TYPE_ENUM type_name: ".odd.Mood" label: LABEL_OPTIONAL
          options { [buf.validate.field] { enum { in: 1 in: 2 } } } }
  field { name: "unlike" number: 12 type: TYPE_STRING label: LABEL_REPEATED
          options { [buf.validate.field] { repeated { min_items: 1 unique: true } } } }
  field { name: "this" number: 13 type: TYPE_MESSAGE type_name: ".odd.Inner" label: LABEL_OPTIONAL
          options { [buf.validate.field] {
            cel { id: "matches" expression: "this.text.matches('^(this|a)$') && this.between != 1" } } } }
  field { name: "listed" number: 14 type: TYPE_STRING label: LABEL_REPEATED
          options { [buf.validate.field] { repeated { min_items: 1
            items { string { in: "a" in: "b" } } } } } }
  field { name: "never_asked" number: 15 type: TYPE_STRING label: LABEL_OPTIONAL
          options { [buf.validate.field] { ignore: IGNORE_ALWAYS string { min_len: 99 } } } }
  field { name: "one" number: 16 type: TYPE_STRING label: LABEL_OPTIONAL oneof_index: 0
          options { [buf.validate.field] { string { min_len: 2 } } } }
  field { name: "other" number: 17 type: TYPE_STRING label: LABEL_OPTIONAL oneof_index: 0 }
  field { name: "by_name" number: 18 type: TYPE_MESSAGE type_name: ".odd.Odd.ByNameEntry"
          label: LABEL_REPEATED options { [buf.validate.field] { map { min_pairs: 1 } } } }
  field { name: "const" number: 19 type: TYPE_INT32 label: LABEL_OPTIONAL
          options { [buf.validate.field] { int32 { const: 7 } } } }
  field { name: "box" number: 20 type: TYPE_MESSAGE type_name: ".odd.Inner" label: LABEL_OPTIONAL
          options { [buf.validate.field] { required: true
            cel { id: "boxed" expression: "this.boxed != 5" } } } }
  nested_type { name: "ByNameEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL } }
  oneof_decl { name: "either" options { [buf.validate.oneof] { required: true } } }
  oneof_decl { name: "_unset" } oneof_decl { name: "_unset_or_zero" }
}
message_type {
  name: "AtMostOne"
  field { name: "a" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "b" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  options { [buf.validate.message] { oneof { fields: "a" fields: "b" } } }
}
"""


def odd() -> list[Descriptor]:
    """Each field of Odd as a message of its own, so that none hides behind another's fault."""
    file = text_format.Parse(ODD, FileDescriptorProto())
    whole = next(message for message in file.message_type if message.name == "Odd")
    for field in whole.field:
        alone = file.message_type.add(name=f"Only_{field.name}")
        alone.field.add().CopyFrom(field)
        if field.type_name.endswith("Entry"):
            alone.nested_type.extend(whole.nested_type)
            alone.field[0].type_name = f".odd.{alone.name}.ByNameEntry"
        if field.HasField("oneof_index"):
            alone.oneof_decl.add().CopyFrom(whole.oneof_decl[field.oneof_index])
            alone.field[0].oneof_index = 0
    pool = descriptor_pool.Default()
    pool.Add(file)
    return [*pool.FindFileByName("odd.proto").message_types_by_name.values()]


def requests() -> list[Descriptor]:
    """What is asked of all our services."""
    services = chain.from_iterable(
        file.services_by_name.values() for file in chain.from_iterable(contracts.FILES.values())
    )
    return [method.input_type for service in services for method in service.methods]


ODD_ONES = {message.name: message for message in odd()}
REQUESTS = {message.full_name: message for message in requests()}

# What the validator has to be asked about always.
ASKED = {
    *("Odd", "AtMostOne", "Only_outside", "Only_outside_or_on", "Only_unlike", "Only_one", "Only_other"),
    *("Only_by_name", "Only_const", "Only_box"),
}


class Maker:
    """Messages of all sorts, made better step by step by what the validator finds."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._random = random.Random(descriptor.full_name)  # noqa: S311

    def messages(self) -> Iterator[tuple[Message, bool]]:
        """Each with whether the validator finds it right."""
        for _ in range(TRIES):
            made = self._message(self._descriptor)
            for _ in range(STEPS):
                violations = VALIDATOR.collect_violations(made)
                yield made, not violations
                if not violations:
                    break
                self._mend(made, self._random.choice(violations))

    def _mend(self, message: Any, violation: protovalidate.Violation) -> None:
        """Puts another value there."""
        if violation.proto.field is None:
            return
        *within, last = violation.proto.field.elements
        for element in within:
            message = getattr(message, element.field_name)
            if element.subscript is not None:
                message = message[element.subscript.value]
        named = message.DESCRIPTOR.fields_by_name.get(last.field_name)  # none is named by a oneof
        field = named or self._random.choice(message.DESCRIPTOR.fields)
        if last.subscript is None or field.message_type is None:
            message.ClearField(field.name)
            self._fill(message, field)

    def _message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        made: Message = message_factory.GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._random.random() < 0.7 / (1 + depth):
                self._fill(made, field, depth)
        return made

    def _fill(self, message: Message, field: FieldDescriptor, depth: int = 0) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["a"] = 1
        elif field.is_repeated:
            getattr(message, field.name).extend(self._many(field, depth))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(self._message(field.message_type, depth + 1))
        else:
            setattr(message, field.name, self._random.choice(_values(field)))

    def _many(self, field: FieldDescriptor, depth: int) -> list[Any]:
        number = self._random.choice((*(0, 1, 2, 3) * 5, 101))
        if field.message_type is not None:
            return [self._message(field.message_type, depth + 1) for _ in range(number)]
        return [self._random.choice(_values(field)) for _ in range(number)]


def _values(field: FieldDescriptor) -> tuple[Any, ...]:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return TEXTS if field.type == field.TYPE_STRING else tuple(text.encode() for text in TEXTS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return (False, True)
        case FieldDescriptor.CPPTYPE_ENUM:
            return (0, 1, 2, 99)
        case FieldDescriptor.CPPTYPE_UINT32 | FieldDescriptor.CPPTYPE_UINT64:
            return tuple(number for number in NUMBERS if number >= 0)
    return NUMBERS


def tried(descriptor: Descriptor) -> int:
    """How many right messages looked right; a wrong one never does."""
    look = plain_rules.look(descriptor)
    seen = 0
    for message, is_right in Maker(descriptor).messages():
        looks_right = bool(look(message))
        assert is_right or not looks_right, f"looks right and is not: {message}"
        seen += looks_right
    return seen


@pytest.mark.parametrize("name", REQUESTS)
def test_no_request_looks_right_that_is_not(name: str) -> None:
    tried(REQUESTS[name])


@pytest.mark.parametrize("name", ODD_ONES)
def test_odd_rules_are_kept_or_left_to_the_validator(name: str) -> None:
    seen = tried(ODD_ONES[name])
    assert (seen == 0) == (name in ASKED)


def test_an_order_looks_right_at_once() -> None:
    request = messages.request()
    look = plain_rules.look(request.DESCRIPTOR)
    assert look(request)
    request.lines[3].quantity = 0
    assert not look(request)
