"""Scalars of the proto3 JSON mapping: JSON value or text in, Python value out.

`from_json` functions take what JSON offers (a number, or the same in a string); `from_text` functions take
what stands in a path or a query, where a number is plain decimal digits. Both raise Mismatch.
https://protobuf.dev/programming-guides/json/
"""

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from gateway.refusals import Mismatch

Convert = Callable[[Any], Any]

FLOAT_MAX: Final = 3.4028234663852886e38
_FLOAT_PRECISIONS: Final = range(6, 10)  # nine significant digits always suffice for a 32-bit float
_INT_DIGITS_MAX: Final = 20  # of 2^64; longer text is out of range, whatever it says
_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_URL_SAFE = str.maketrans("-_", "+/")
_NOT_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
_INT32_MIN, _INT32_MAX = _RANGES[FieldDescriptor.CPPTYPE_INT32]


def from_json(field: FieldDescriptor) -> Convert:
    """The decoder of one value of a scalar or enum field."""
    if field.cpp_type in _RANGES:
        return _integer_from_json(*_RANGES[field.cpp_type])
    if field.enum_type is not None:
        return _enum_from_json(field.enum_type)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return bytes_from_json if field.type == FieldDescriptor.TYPE_BYTES else string_from_json
    return {
        FieldDescriptor.CPPTYPE_BOOL: bool_from_json,
        FieldDescriptor.CPPTYPE_FLOAT: float_from_json,
        FieldDescriptor.CPPTYPE_DOUBLE: double_from_json,
    }[field.cpp_type]


def from_text(field: FieldDescriptor) -> Convert:
    """The decoder of one value in a path, a query or a map's key."""
    if field.cpp_type in _RANGES:
        return _integer_from_text(*_RANGES[field.cpp_type])
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return bool_from_text
    return from_json(field)  # text means the same in both


def to_json(field: FieldDescriptor) -> Convert | None:
    """The encoder of one value of a scalar or enum field; None if JSON takes it as it is."""
    if field.enum_type is not None:
        return _enum_to_json(field.enum_type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes_to_json
    return _TO_JSON.get(field.cpp_type)


def to_key(field: FieldDescriptor) -> Convert | None:
    """The encoder of a map's key: JSON has strings only."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return None
    return _bool_to_key if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else str


def _integer_from_json(low: int, high: int) -> Convert:
    def convert(value: object) -> int:
        if type(value) is int:
            number = value
        elif type(value) is str:
            if len(value) <= _INT_DIGITS_MAX and (
                (value.isdecimal() and value.isascii()) or _INTEGER.fullmatch(value)
            ):
                number = int(value)
            else:
                number = _whole(_finite(value, "must be an integer"))
        elif type(value) is float:
            number = _whole(value)
        else:
            raise Mismatch("must be an integer")
        if not low <= number <= high:
            raise Mismatch(f"must be between {low} and {high}")
        return number

    return convert


def _whole(number: float) -> int:
    # A literal beyond 64 bits arrives as a double; -2^63 - 1 has become -2^63. Refuse what may be rounded.
    if number == -(2.0**63):
        raise Mismatch("must be an integer of at most 64 bits; send it without exponent or fraction")
    if not number.is_integer():
        raise Mismatch("must be an integer")
    return int(number)


def _integer_from_text(low: int, high: int) -> Convert:
    def convert(text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise Mismatch("must be an integer")
        if len(text) <= _INT_DIGITS_MAX and low <= (number := int(text)) <= high:
            return number
        raise Mismatch(f"must be between {low} and {high}")

    return convert


def bool_from_json(value: object) -> bool:
    if value is True or value is False:
        return value
    raise Mismatch("must be true or false")


def bool_from_text(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise Mismatch("must be true or false")


def _bool_to_key(value: object) -> str:
    return "true" if value else "false"


def string_from_json(value: object) -> str:
    if type(value) is str:
        return value
    raise Mismatch("must be a string")


def double_from_json(value: object) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    if type(value) is str:
        special = _NOT_FINITE.get(value)
        return _finite(value, "must be a number") if special is None else special
    raise Mismatch("must be a number")


def float_from_json(value: object) -> float:
    number = double_from_json(value)
    if abs(number) > FLOAT_MAX and math.isfinite(number):
        try:
            struct.pack("<f", number)  # 3.4028235e38 is above the largest float, but rounds to it
        except OverflowError:
            raise Mismatch("must fit a 32-bit float") from None
    return number


def _finite(text: str, complaint: str) -> float:
    """The number that JSON text spells; Python's own spellings (1_0, inf, full-width digits) are none."""
    if not _NUMBER.fullmatch(text):
        raise Mismatch(complaint)
    number = float(text)
    if math.isinf(number):
        raise Mismatch("is too large")
    return number


def double_to_json(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def float_to_json(value: float) -> float | str:
    """The shortest decimal that reads back as the same 32-bit float."""
    if not math.isfinite(value):
        return double_to_json(value)
    for precision in _FLOAT_PRECISIONS:
        short = float(f"{value:.{precision}g}")
        if abs(short) <= FLOAT_MAX and struct.unpack("<f", struct.pack("<f", short))[0] == value:
            return short
    return value


def bytes_from_json(value: object) -> bytes:
    """Both alphabets, padding optional."""
    if type(value) is str:
        text = value.translate(_URL_SAFE)
        bare = text.rstrip("=")
        if _BASE64.fullmatch(text) and (len(bare) == len(text) or len(text) % 4 == 0):
            try:
                return base64.b64decode(bare + "=" * (-len(bare) % 4))
            except binascii.Error:
                pass
    raise Mismatch("must be base64")


def bytes_to_json(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _enum_from_json(enum: EnumDescriptor) -> Convert:
    numbers = {value.name: value.number for value in enum.values}
    known = frozenset(numbers.values())
    choices = ", ".join(list(numbers)[:32])
    null = 0 if enum.full_name == "google.protobuf.NullValue" else None

    def convert(value: object) -> int:
        if type(value) is str:
            number = numbers.get(value)
            if number is None and _INTEGER.fullmatch(value) and len(value) <= _INT_DIGITS_MAX:
                number = int(value)
        elif type(value) is int:
            number = value
        elif value is None and null is not None:
            return null
        else:
            number = None
        if (
            number is None
            or not _INT32_MIN <= number <= _INT32_MAX
            or (enum.is_closed and number not in known)
        ):
            raise Mismatch(f"must be one of {choices}")
        return number

    return convert


def _enum_to_json(enum: EnumDescriptor) -> Convert:
    if enum.full_name == "google.protobuf.NullValue":
        return lambda _: None
    names: dict[int, str] = {}
    for value in enum.values:
        names.setdefault(value.number, value.name)
    return lambda number: names.get(number, number)


_TO_JSON: Final[dict[int, Convert]] = {
    FieldDescriptor.CPPTYPE_INT64: str,
    FieldDescriptor.CPPTYPE_UINT64: str,
    FieldDescriptor.CPPTYPE_FLOAT: float_to_json,
    FieldDescriptor.CPPTYPE_DOUBLE: double_to_json,
}
