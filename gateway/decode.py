"""JSON → message: one closure per message type, compiled once from its descriptor.

A closure fills a message it is given, so that body, path and query of a request meet in one message. Every
violation of a document is reported, not just the first.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import orjson
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from gateway import scalars, well_known
from gateway.refusals import VIOLATIONS_MAX, Mismatch, Refused, Violation, Violations, placed

Fill = Callable[[Any, Any], None]
"""(message, JSON value): puts the value into the message. Raises Refused."""

# Protobuf's own parsers stop at 100 levels of message; JSON for them is never much deeper.
DEPTH_MAX: Final = 100
_KEY = re.compile(rb'"\s*:')


def parse(data: bytes) -> Any:
    """The JSON document in these bytes.

    Strict: UTF-8 only, no key twice (two parsers that disagree on which one counts are a smuggling hole), at
    most DEPTH_MAX levels. Raises Mismatch.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Mismatch(f"is not valid JSON (line {error.lineno}, column {error.colno})") from None
    if not isinstance(document, (dict, list)):
        return document
    keys = _keys(document, 0)
    # Colons outnumber keys if one is repeated, or if one stands in a string: look closer only then.
    if data.count(b":") != keys and len(_KEY.findall(data)) != keys:
        json.loads(data, object_pairs_hook=_unique)
    return document


def _keys(value: dict[str, Any] | list[Any], depth: int) -> int:
    """How many keys a document has. Raises Mismatch if it is too deep."""
    if depth >= DEPTH_MAX:
        raise Mismatch(f"must not nest deeper than {DEPTH_MAX} levels")
    if type(value) is dict:
        count = len(value)
        for item in value.values():
            if type(item) is dict or type(item) is list:
                count += _keys(item, depth + 1)
        return count
    count = 0
    for item in value:
        if type(item) is dict or type(item) is list:
            count += _keys(item, depth + 1)
    return count


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise Violations([Violation(repeated, "is given twice")])
    return unique


class Decoder:
    """Compiles and keeps the closures for the types of one descriptor pool."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool
        self._by_type: dict[Descriptor, Fill] = {}

    def message(self, descriptor: Descriptor) -> Fill:
        """Fills a message of this type."""
        known = self._by_type.get(descriptor)
        if known is not None:
            return known
        if descriptor.full_name == well_known.ANY:
            fill: Fill = self._any
        else:
            fill = well_known.reader(descriptor) or self._ordinary(descriptor)
        self._by_type[descriptor] = fill
        return fill

    def field(self, field: FieldDescriptor) -> Fill:
        """Fills one field of a message."""
        entry = map_entry(field)
        if entry is not None:
            return self._map(field, entry)
        if field.is_repeated:
            return self._repeated(field)
        if field.message_type is not None:
            return _submessage(field.name, self.message(field.message_type))
        if field.type == FieldDescriptor.TYPE_STRING:
            return _text(field.name)
        return _scalar(field.name, scalars.from_json(field))

    def _ordinary(self, descriptor: Descriptor) -> Fill:
        table: dict[str, tuple[str, int, Fill, bool]] = {}

        def fill(message: Any, value: Any) -> None:
            if type(value) is not dict:
                raise Mismatch("must be an object")
            seen = 0
            wrong: list[Violation] = []
            for key, item in value.items():
                entry = table.get(key)
                if entry is None:
                    wrong.append(Violation(key, "is not a known field"))
                    if len(wrong) >= VIOLATIONS_MAX:
                        break
                    continue
                name, bits, put, takes_null = entry
                if item is None and not takes_null:
                    continue
                if seen & bits:
                    wrong.append(Violation(name, "is given twice, or with another of its oneof"))
                    continue
                seen |= bits
                try:
                    put(message, item)
                except Refused as refused:
                    wrong += placed(name, refused)
            if wrong:
                raise Violations(wrong)

        self._by_type[descriptor] = fill  # before its fields: types may contain themselves
        oneofs = {
            oneof.name: 1 << (len(descriptor.fields) + at) for at, oneof in enumerate(descriptor.oneofs)
        }
        for at, field in enumerate(descriptor.fields):
            bits = 1 << at
            if field.containing_oneof is not None:
                bits |= oneofs[field.containing_oneof.name]
            entry = (field.name, bits, self.field(field), takes_null(field))
            table[field.name] = table[field.json_name] = entry
        return fill

    def _repeated(self, field: FieldDescriptor) -> Fill:
        name = field.name
        if field.message_type is not None:
            fill = self.message(field.message_type)

            def put_messages(message: Any, value: Any) -> None:
                _check_list(value)
                add = getattr(message, name).add
                wrong: list[Violation] = []
                for at, item in enumerate(value):
                    try:
                        fill(add(), item)
                    except Refused as refused:
                        wrong += placed(f"[{at}]", refused)
                        if len(wrong) >= VIOLATIONS_MAX:
                            break
                if wrong:
                    raise Violations(wrong)

            return put_messages
        convert = scalars.from_json(field)

        def put_scalars(message: Any, value: Any) -> None:
            _check_list(value)
            try:
                getattr(message, name).extend([convert(item) for item in value])
            except Refused:
                raise Violations(_each_wrong(convert, enumerate(value))) from None

        return put_scalars

    def _map(self, field: FieldDescriptor, entry: Descriptor) -> Fill:
        name = field.name
        to_key = scalars.from_text(entry.fields_by_name["key"])
        value_field = entry.fields_by_name["value"]
        fill = None if value_field.message_type is None else self.message(value_field.message_type)
        convert = scalars.from_json(value_field) if fill is None else None

        def put(message: Any, value: Any) -> None:
            if type(value) is not dict:
                raise Mismatch("must be an object")
            entries = getattr(message, name)
            wrong: list[Violation] = []
            for text, item in value.items():
                try:
                    key = to_key(text)
                    if key in entries:
                        raise Mismatch("is given twice")
                    if convert is not None:
                        entries[key] = convert(item)
                    elif fill is not None:
                        fill(entries[key], item)
                except Refused as refused:
                    wrong += placed(f'["{text}"]', refused)
                    if len(wrong) >= VIOLATIONS_MAX:
                        break
            if wrong:
                raise Violations(wrong)

        return put

    def _any(self, message: Any, value: Any) -> None:
        if type(value) is not dict:
            raise Mismatch("must be an object")
        if not value:
            return
        type_url = value.get("@type")
        if type(type_url) is not str or "/" not in type_url:
            raise Violations(
                [Violation("@type", "must name a type, e.g. type.googleapis.com/google.type.Money")]
            )
        descriptor = self._type_named(type_url)
        packed = message_factory.GetMessageClass(descriptor)()
        rest = {key: item for key, item in value.items() if key != "@type"}
        fill = self.message(descriptor)
        if has_json_form_of_its_own(descriptor):
            if rest.keys() != {"value"}:
                raise Violations([Violation("value", "must be the only field beside @type for this type")])
            fill(packed, rest["value"])
        else:
            fill(packed, rest)
        message.type_url = type_url
        message.value = packed.SerializeToString(deterministic=True)

    def _type_named(self, type_url: str) -> Descriptor:
        try:
            return self._pool.FindMessageTypeByName(type_url.rpartition("/")[2])
        except KeyError:
            raise Violations([Violation("@type", "names no type that is known here")]) from None


def takes_null(field: FieldDescriptor) -> bool:
    """Whether JSON null is a value of this field rather than its absence."""
    if field.is_repeated:
        return False
    if field.message_type is not None:
        return bool(field.message_type.full_name == well_known.VALUE)
    return field.enum_type is not None and field.enum_type.full_name == "google.protobuf.NullValue"


def has_json_form_of_its_own(descriptor: Descriptor) -> bool:
    """Whether an Any puts it under `value` instead of spreading its fields."""
    return descriptor.full_name == well_known.ANY or well_known.reader(descriptor) is not None


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    """The type of a map's entries; None if the field is no map."""
    kind = field.message_type
    return kind if kind is not None and kind.GetOptions().map_entry else None


def _scalar(name: str, convert: scalars.Convert) -> Fill:
    def put(message: Any, value: Any) -> None:
        setattr(message, name, convert(value))

    return put


def _text(name: str) -> Fill:
    def put(message: Any, value: Any) -> None:  # most fields are text: one call less
        if type(value) is not str:
            raise Mismatch("must be a string")
        setattr(message, name, value)

    return put


def _submessage(name: str, fill: Fill) -> Fill:
    def put(message: Any, value: Any) -> None:
        below = getattr(message, name)
        below.SetInParent()
        fill(below, value)

    return put


def _check_list(value: object) -> None:
    if type(value) is not list:
        raise Mismatch("must be an array")


def _each_wrong(convert: scalars.Convert, items: "enumerate[Any]") -> list[Violation]:
    wrong: list[Violation] = []
    for at, item in items:
        try:
            convert(item)
        except Refused as refused:
            wrong += placed(f"[{at}]", refused)
            if len(wrong) >= VIOLATIONS_MAX:
                break
    return wrong
