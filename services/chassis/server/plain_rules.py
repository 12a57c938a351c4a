"""Tells at a look that a message keeps the plain rules of its contract, so that the validator rests.

protovalidate stays the only judge of what is wrong: here nothing is ever refused. A message looks right when
every rule on it is one of those below and visibly kept; about all others (an e-mail address, more than
comparisons in CEL, anything broken) the validator is asked, whose dynamic messages and interpreter cost a
busy server several times what they cost alone. `tests/chassis/server/test_plain_rules.py` holds the two
against each other.

As dataclasses do, it writes Python: one expression for each type of message, such as

    uuid((this := m.user_id)) and len((this := m.lines)) >= 1 and len(this) <= 100 and all(map(look_1, this))
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

Look = Callable[[Any], object]
"""True (as `if` has it) only of what is surely right."""

# https://protovalidate.com/reference/rules/string_rules/#uuid
_UUID: Final = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

# What Python and RE2 read alike: anchored at both ends, no escapes, no wildcards.
_COMMON_PATTERN: Final = re.compile(r"\^((?:\[\^?[^\\\[\]]+\]|[^\\.^$\[\]])+)\$")

_NUMBERS: Final = frozenset({"int32", "int64", "uint32", "uint64"})
_BOUNDS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

# Strings in CEL, which stay as they are, and its operators as Python spells them.
_CEL_TOKENS: Final = re.compile(r"'[^']*'|\"[^\"]*\"|&&|\|\|")
_IN_PYTHON: Final = {"&&": " and ", "||": " or "}

_UNSURE: Final = "False"


class _NotPlain(Exception):
    """A rule that is the validator's to judge."""


def look(message: Descriptor) -> Look:
    """What tells whether a message of this type looks right."""
    return _Looks().at(message)


class _Looks:
    """Those at one type of message and at all it is made of, which may be itself."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._known: dict[str, Any] = {"uuid": _UUID.fullmatch}

    def at(self, message: Descriptor) -> Look:
        look: Look = self._known[self._name(message)]
        return look

    def _name(self, message: Descriptor) -> str:
        """What the function is called that looks at such messages."""
        name = self._names.get(message.full_name)
        if name is None:
            name = self._names[message.full_name] = f"look_{len(self._names)}"
            self._known[name] = self._function("m", self._of_message(message))
        return name

    def _function(self, argument: str, conditions: Iterable[str]) -> Look:
        function: Look = eval(f"lambda {argument}: {_all(conditions)}", self._known)  # noqa: S307 (we wrote it)
        return function

    def _constant(self, value: object) -> str:
        name = f"c_{len(self._known)}"
        self._known[name] = value
        return name

    def _of_message(self, message: Descriptor) -> Iterator[str]:
        """Conditions on a message `m`."""
        oneofs = (oneof.GetOptions().HasExtension(validate_pb2.oneof) for oneof in message.oneofs)
        if message.GetOptions().HasExtension(validate_pb2.message) or any(oneofs):
            yield _UNSURE
        for field in message.fields:
            rules = field.GetOptions().Extensions[validate_pb2.field]
            if rules.ignore == validate_pb2.IGNORE_ALWAYS:
                continue
            try:
                conditions = [*(self._of_many if field.is_repeated else self._of_one)(field, rules)]
            except _NotPlain:
                conditions = [_UNSURE]
            yield from _held(field, rules, conditions)

    def _of_one(self, field: FieldDescriptor, rules: Any) -> Iterator[str]:
        """Conditions on a value `this` of the field, or on one of its items."""
        for expression in (*(rule.expression for rule in rules.cel), *rules.cel_expression):
            yield self._of_cel(field, expression)
        kind = rules.WhichOneof("type")
        if kind == "string":
            yield from self._of_string(rules.string)
        elif kind == "enum":
            yield from self._of_enum(field, rules.enum)
        elif kind in _NUMBERS:
            yield from self._of_number(getattr(rules, kind))
        elif kind is not None:
            raise _NotPlain
        if field.message_type is not None:
            yield f"{self._name(field.message_type)}(this)"

    def _of_many(self, field: FieldDescriptor, rules: Any) -> Iterator[str]:
        """Conditions on all the values of the field."""
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        items = rules.repeated.items
        if is_map or rules.cel or rules.cel_expression or items.required or items.ignore:
            raise _NotPlain
        yield from _sized(_only(rules.repeated, "min_items", "max_items", "items"), "min_items", "max_items")
        if conditions := [*self._of_one(field, items)]:
            yield f"all(map({self._constant(self._function('this', conditions))}, this))"

    def _of_string(self, rules: Any) -> Iterator[str]:
        told = _only(rules, "min_len", "max_len", "uuid", "pattern", "in", "not_in")
        yield from _sized(told, "min_len", "max_len")
        if told.get("uuid"):
            yield "uuid(this)"
        if "pattern" in told:
            yield self._matching(told["pattern"], "this")
        yield from self._listed(told)

    def _of_number(self, rules: Any) -> Iterator[str]:
        told = _only(rules, *_BOUNDS, "in", "not_in")
        for name, sign in _BOUNDS.items():
            if name in told:
                yield f"this {sign} {told[name]}"
        yield from self._listed(told)

    def _of_enum(self, field: FieldDescriptor, rules: Any) -> Iterator[str]:
        told = _only(rules, "defined_only", "in", "not_in")
        if told.get("defined_only"):
            assert field.enum_type is not None
            yield f"this in {self._constant(frozenset(field.enum_type.values_by_number))}"
        yield from self._listed(told)

    def _listed(self, told: Mapping[str, Any]) -> Iterator[str]:
        if "in" in told:
            yield f"this in {self._constant(frozenset(told['in']))}"
        if "not_in" in told:
            yield f"this not in {self._constant(frozenset(told['not_in']))}"

    def _matching(self, pattern: str, value: str) -> str:
        common = _COMMON_PATTERN.fullmatch(pattern)
        if common is None:
            raise _NotPlain
        return f"{self._constant(re.compile(common[1]).fullmatch)}({value})"

    def _of_cel(self, field: FieldDescriptor, expression: str) -> str:
        if "\\" in expression or field.message_type is None:
            raise _NotPlain
        python = _CEL_TOKENS.sub(lambda token: _IN_PYTHON.get(token[0], token[0]), expression)
        try:
            tree = ast.parse(python, mode="eval")
        except SyntaxError:
            raise _NotPlain from None
        return self._truth(field.message_type, tree.body)

    def _truth(self, this: Descriptor, node: ast.expr) -> str:
        """What Python says for a part of an expression that is true or false."""
        match node:
            case ast.BoolOp(op=how, values=parts):
                joint = " and " if isinstance(how, ast.And) else " or "
                return f"({joint.join(self._truth(this, part) for part in parts)})"
            case ast.Compare(left=ast.Attribute() as left, ops=[_], comparators=[ast.Constant(value=int())]):
                _must_be(_field(this, left), FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
                return ast.unparse(node)
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute() as text, attr="matches"),
                args=[ast.Constant(value=str() as pattern)],
            ):
                _must_be(_field(this, text), FieldDescriptor.CPPTYPE_STRING)
                return self._matching(pattern, ast.unparse(text))
        raise _NotPlain


def _held(field: FieldDescriptor, rules: Any, conditions: Sequence[str]) -> Iterator[str]:
    """Conditions on a field's value as such on the message that holds it, or does not."""
    get = f"m.{field.name}"
    is_set = f"m.HasField({field.name!r})" if field.has_presence else get
    if rules.required:
        yield is_set
    if conditions:
        met = _all(conditions).replace("this", f"(this := {get})", 1)  # the first is the first to be asked
        may_be_absent = field.has_presence or rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE
        yield f"(not {is_set} or {met})" if may_be_absent else met


def _all(conditions: Iterable[str]) -> str:
    return " and ".join(conditions) or "True"


def _sized(told: Mapping[str, Any], least: str, most: str) -> Iterator[str]:
    if least in told:
        yield f"len(this) >= {told[least]}"
    if most in told:
        yield f"len(this) <= {told[most]}"


def _only(rules: Message, *known: str) -> dict[str, Any]:
    """What the rules say, by name, if that is all they say."""
    told = {field.name: value for field, value in rules.ListFields()}
    if told.keys() - {*known}:
        raise _NotPlain
    return told


def _field(message: Descriptor, node: ast.Attribute) -> FieldDescriptor | None:
    """The field that `this.name` means."""
    is_ours = isinstance(node.value, ast.Name) and node.value.id == "this"
    return message.fields_by_name.get(node.attr) if is_ours else None


def _must_be(field: FieldDescriptor | None, *types: int) -> None:
    if field is None or field.is_repeated or field.cpp_type not in types:
        raise _NotPlain
