"""`buf.validate` rules as JSON Schema keywords.

What JSON Schema cannot say (rules in CEL that carry a message) goes into the description; what neither can is
left to the service, which checks everything itself.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from buf.validate import validate_pb2
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

Schema = dict[str, Any]

_FORMATS: Final = {
    "email": "email",
    "hostname": "hostname",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "uri": "uri",
    "uri_ref": "uri-reference",
    "uuid": "uuid",
}
_BOUNDS: Final = {
    "gt": "exclusiveMinimum",
    "gte": "minimum",
    "lt": "exclusiveMaximum",
    "lte": "maximum",
}
_NUMBERS: Final = frozenset(
    "float double int32 int64 uint32 uint64 sint32 sint64 fixed32 fixed64 sfixed32 sfixed64".split()
)
# RE2 knows these and ECMA 262, which JSON Schema asks for, does not.
_ONLY_RE2: Final = re.compile(r"\(\?[^:=!<]|\\[AzCQEpP]|\[\[:|\(\?P")


def rules_of(field: FieldDescriptor) -> validate_pb2.FieldRules | None:
    """The rules of a field; None without any, or if they are switched off."""
    options = field.GetOptions()
    if not options.HasExtension(validate_pb2.field):
        return None
    rules: validate_pb2.FieldRules = options.Extensions[validate_pb2.field]
    return None if rules.ignore == validate_pb2.IGNORE_ALWAYS else rules


def keywords(rules: validate_pb2.FieldRules, enum: EnumDescriptor | None) -> Schema:
    """What the rules say about a value (of a list or map: about the whole)."""
    kind = rules.WhichOneof("type")
    if kind is None:
        return {}
    found = getattr(rules, kind)
    given = {field.name: value for field, value in found.ListFields()}
    if kind == "string":
        return _text(given)
    if kind in _NUMBERS:
        return _number(given)
    if kind == "enum":
        return _enum(given, enum)
    if kind == "repeated":
        return _renamed(given, {"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems"})
    if kind == "map":
        return _renamed(given, {"min_pairs": "minProperties", "max_pairs": "maxProperties"})
    return {"const": given["const"]} if kind == "bool" and "const" in given else {}


def sayings(rules: validate_pb2.FieldRules) -> list[str]:
    """What rules in CEL tell those who break them."""
    return [rule.message for rule in rules.cel if rule.message]


def refuses_absence(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> bool:
    """Whether a message without this field is refused."""
    if rules.required:
        return True
    if field.has_presence or rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
        return False
    return _refuses_zero(keywords(rules, field.enum_type), field)


def _refuses_zero(schema: Schema, field: FieldDescriptor) -> bool:
    if any(schema.get(least, 0) > 0 for least in ("minLength", "minItems", "minProperties")):
        return True
    if field.is_repeated:
        return False
    if field.enum_type is not None:
        zero: Any = field.enum_type.values_by_number[0].name if 0 in field.enum_type.values_by_number else 0
    else:
        zero = field.default_value
    if ("const" in schema and schema["const"] != zero) or ("enum" in schema and zero not in schema["enum"]):
        return True
    if zero in schema.get("not", {}).get("enum", ()):
        return True
    if isinstance(zero, str):
        pattern = schema.get("pattern")
        return "format" in schema or (pattern is not None and re.search(pattern, zero) is None)
    return bool(
        zero < schema.get("minimum", zero)
        or zero > schema.get("maximum", zero)
        or zero <= schema.get("exclusiveMinimum", zero - 1)
        or zero >= schema.get("exclusiveMaximum", zero + 1)
    )


def _text(given: Mapping[str, Any]) -> Schema:
    schema = _renamed(given, {"const": "const", "min_len": "minLength", "max_len": "maxLength"})
    if "len" in given:
        schema["minLength"] = schema["maxLength"] = given["len"]
    patterns = [given["pattern"]] if "pattern" in given and not _ONLY_RE2.search(given["pattern"]) else []
    for name, shape in (("prefix", "^{}"), ("suffix", "{}$"), ("contains", "{}")):
        if name in given:
            patterns.append(shape.format(re.escape(given[name])))
    if len(patterns) == 1:
        schema["pattern"] = patterns[0]
    elif patterns:
        schema["allOf"] = [{"pattern": pattern} for pattern in patterns]
    form = next((name for rule, name in _FORMATS.items() if given.get(rule)), None)
    if form is not None:
        schema["format"] = form
    if given.get("ip"):
        schema["anyOf"] = [{"format": "ipv4"}, {"format": "ipv6"}]
    return schema | _choice(given)


def _number(given: Mapping[str, Any]) -> Schema:
    schema = _renamed(given, {"const": "const"}) | _choice(given)
    low = given.get("gt", given.get("gte"))
    high = given.get("lt", given.get("lte"))
    if low is not None and high is not None and low > high:
        return schema  # then the rule means "outside of"
    return schema | _renamed(given, _BOUNDS)


def _enum(given: Mapping[str, Any], enum: EnumDescriptor | None) -> Schema:
    if enum is None:
        return {}
    names = {value.number: value.name for value in reversed(enum.values)}  # the first of aliases
    taken = list(dict.fromkeys(value.number for value in enum.values))
    if "const" in given:
        taken = [given["const"]]
    elif "in" in given:
        taken = [number for number in taken if number in given["in"]]
    elif "not_in" in given:
        taken = [number for number in taken if number not in given["not_in"]]
    else:
        return {}  # `defined_only` is what the schema of the type says by itself
    return {"enum": [names[number] for number in taken if number in names]}


def _choice(given: Mapping[str, Any]) -> Schema:
    schema: Schema = {}
    if "in" in given:
        schema["enum"] = list(given["in"])
    if "not_in" in given:
        schema["not"] = {"enum": list(given["not_in"])}
    return schema


def _renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> Schema:
    return {names[name]: value for name, value in given.items() if name in names}
