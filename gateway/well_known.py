"""Well-known types with a JSON form of their own: Timestamp, Duration, FieldMask, Struct and kin, wrappers.

Readers fill a message from a JSON value and raise Mismatch; writers give the JSON value of a message and
raise NoJsonForm. `Any` needs the other types and stands with the codecs.
https://protobuf.dev/programming-guides/json/
"""

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from google.protobuf.descriptor import Descriptor

from gateway import scalars
from gateway.refusals import Mismatch

Read = Callable[[Any, Any], None]
Write = Callable[[Any], Any]

ANY: Final = "google.protobuf.Any"
EMPTY: Final = "google.protobuf.Empty"
HTTP_BODY: Final = "google.api.HttpBody"
FIELD_MASK: Final = "google.protobuf.FieldMask"
VALUE: Final = "google.protobuf.Value"

# Receivers refuse messages nested deeper than 100, and a level of Struct is three levels of message.
STRUCT_DEPTH_MAX: Final = 30

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (arithmetic only; the zone is UTC throughout)
_SECONDS_MIN, _SECONDS_MAX = -62_135_596_800, 253_402_300_799  # years 1 to 9999
_DURATION_MAX: Final = 315_576_000_000  # seconds in 10,000 years
_NANOS: Final = 1_000_000_000
_TIMESTAMP = re.compile(
    # Some Pythons read 24:00:00 as the next day, which RFC 3339 does not have.
    r"(\d{4}-\d{2}-\d{2}T(?:[01]\d|2[0-3]):\d{2}:\d{2})(?:\.(\d{1,9}))?(?:Z|([+-])(\d{2}):(\d{2}))",
    re.ASCII,
)
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
_MASK = re.compile(r"[A-Za-z0-9.*,]*")
_MASK_OR_SNAKE = re.compile(r"[A-Za-z0-9.*,_]*")
_UPPER = re.compile("[A-Z]")
_SNAKE = re.compile("_([a-z])")


class NoJsonForm(Exception):
    """A message holds what its JSON form cannot say, e.g. a timestamp in the year 0."""


def read_timestamp(message: Any, value: object) -> None:
    match = _TIMESTAMP.fullmatch(value) if type(value) is str else None
    if match is None:
        raise Mismatch("must be an RFC 3339 time, e.g. 2026-01-31T12:00:00Z")
    to_the_second, fraction, sign, hours, minutes = match.groups()
    try:
        since = datetime.fromisoformat(to_the_second) - _EPOCH
    except ValueError:
        raise Mismatch("must be a time that exists") from None
    seconds = since.days * 86400 + since.seconds
    if sign:
        if int(hours) > 23 or int(minutes) > 59:  # noqa: PLR2004
            raise Mismatch("must have an offset that exists")
        offset = (int(hours) * 60 + int(minutes)) * 60
        seconds += offset if sign == "-" else -offset
    if not _SECONDS_MIN <= seconds <= _SECONDS_MAX:
        raise Mismatch("must be in the years 1 to 9999")
    message.seconds = seconds
    message.nanos = int(fraction.ljust(9, "0")) if fraction else 0


def write_timestamp(message: Any) -> str:
    seconds, nanos = message.seconds, message.nanos
    if not (_SECONDS_MIN <= seconds <= _SECONDS_MAX and 0 <= nanos < _NANOS):
        raise NoJsonForm("a timestamp is outside the years 1 to 9999")
    return f"{(_EPOCH + timedelta(0, seconds)).isoformat()}{_fraction(nanos)}Z"


def read_duration(message: Any, value: object) -> None:
    match = _DURATION.fullmatch(value) if type(value) is str else None
    if match is None:
        raise Mismatch("must be a duration in seconds, e.g. 1.5s")
    sign, whole, fraction = match.groups()
    seconds, nanos = int(whole), int(fraction.ljust(9, "0")) if fraction else 0
    if seconds > _DURATION_MAX:
        raise Mismatch(f"must be at most {_DURATION_MAX} seconds")
    message.seconds, message.nanos = (-seconds, -nanos) if sign else (seconds, nanos)


def write_duration(message: Any) -> str:
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _DURATION_MAX or abs(nanos) >= _NANOS or seconds * nanos < 0:
        raise NoJsonForm("a duration is out of range or of two signs")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


def _fraction(nanos: int) -> str:
    """0, 3, 6 or 9 digits."""
    if not nanos:
        return ""
    if nanos % 1_000:
        return f".{nanos:09d}"
    return f".{nanos // 1_000:06d}" if nanos % 1_000_000 else f".{nanos // 1_000_000:03d}"


def read_mask(message: Any, value: object) -> None:
    if type(value) is not str or not _MASK.fullmatch(value):
        raise Mismatch("must be field paths in lowerCamelCase, separated by commas")
    _set_mask(message, value)


def read_mask_text(message: Any, value: str) -> None:
    """In a query the contract's own spelling (`display_name`) is understood too."""
    if not _MASK_OR_SNAKE.fullmatch(value):
        raise Mismatch("must be field paths, separated by commas")
    _set_mask(message, value)


def _set_mask(message: Any, text: str) -> None:
    paths = text.split(",") if text else []
    if not all(part for path in paths for part in path.split(".")):
        raise Mismatch("must not have empty field paths")
    message.paths[:] = [_UPPER.sub(lambda upper: "_" + upper.group().lower(), path) for path in paths]


def write_mask(message: Any) -> str:
    paths = []
    for path in message.paths:
        camel = _SNAKE.sub(lambda found: found.group(1).upper(), path)
        if "_" in camel or _UPPER.search(path):
            raise NoJsonForm("a field mask has a path without a lowerCamelCase form")
        paths.append(camel)
    return ",".join(paths)


def read_struct(message: Any, value: object, depth: int = 0) -> None:
    if type(value) is not dict:
        raise Mismatch("must be an object")
    _bounded(depth)
    message.Clear()
    message.SetInParent()
    fields = message.fields
    for key, item in value.items():
        read_value(fields[key], item, depth + 1)


def read_list(message: Any, value: object, depth: int = 0) -> None:
    if type(value) is not list:
        raise Mismatch("must be an array")
    _bounded(depth)
    message.Clear()
    message.SetInParent()
    add = message.values.add
    for item in value:
        read_value(add(), item, depth + 1)


def read_value(message: Any, value: object, depth: int = 0) -> None:
    kind = type(value)
    if kind is str:
        message.string_value = value
    elif kind is bool:
        message.bool_value = value
    elif kind is float or kind is int:
        message.number_value = float(value)  # type: ignore[arg-type]
    elif value is None:
        message.null_value = 0
    elif kind is dict:
        read_struct(message.struct_value, value, depth)
    else:
        read_list(message.list_value, value, depth)


def _bounded(depth: int) -> None:
    if depth >= STRUCT_DEPTH_MAX:
        raise Mismatch(f"must not nest deeper than {STRUCT_DEPTH_MAX} levels")


def write_struct(message: Any) -> dict[str, Any]:
    return {key: write_value(item) for key, item in message.fields.items()}


def write_list(message: Any) -> list[Any]:
    return [write_value(item) for item in message.values]


def write_value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "struct_value":
        return write_struct(message.struct_value)
    if kind == "list_value":
        return write_list(message.list_value)
    if kind == "number_value" and not math.isfinite(message.number_value):
        raise NoJsonForm("a google.protobuf.Value is not a finite number")
    return getattr(message, kind)


def _wrapper_reader(descriptor: Descriptor, *, text: bool) -> Read:
    field = descriptor.fields_by_name["value"]
    convert = scalars.from_text(field) if text else scalars.from_json(field)

    def read(message: Any, value: object) -> None:
        message.value = convert(value)

    return read


def _wrapper_writer(descriptor: Descriptor) -> Write:
    convert = scalars.to_json(descriptor.fields_by_name["value"])
    if convert is None:
        return lambda message: message.value
    return lambda message: convert(message.value)


_WRAPPERS: Final = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_READERS: Final[dict[str, Read]] = {
    "google.protobuf.Timestamp": read_timestamp,
    "google.protobuf.Duration": read_duration,
    FIELD_MASK: read_mask,
    "google.protobuf.Struct": read_struct,
    "google.protobuf.ListValue": read_list,
    VALUE: read_value,
}
_TEXT_READERS: Final[dict[str, Read]] = {
    "google.protobuf.Timestamp": read_timestamp,
    "google.protobuf.Duration": read_duration,
    FIELD_MASK: read_mask_text,
}
_WRITERS: Final[dict[str, Write]] = {
    "google.protobuf.Timestamp": write_timestamp,
    "google.protobuf.Duration": write_duration,
    FIELD_MASK: write_mask,
    "google.protobuf.Struct": write_struct,
    "google.protobuf.ListValue": write_list,
    VALUE: write_value,
}


def reader(descriptor: Descriptor) -> Read | None:
    """Fills a message of this type from JSON; None if it is an ordinary message."""
    if descriptor.full_name in _WRAPPERS:
        return _wrapper_reader(descriptor, text=False)
    return _READERS.get(descriptor.full_name)


def text_reader(descriptor: Descriptor) -> Read | None:
    """The same from text in a path or query; None if the type has no such form."""
    if descriptor.full_name in _WRAPPERS:
        return _wrapper_reader(descriptor, text=True)
    return _TEXT_READERS.get(descriptor.full_name)


def writer(descriptor: Descriptor) -> Write | None:
    """The JSON value of a message of this type; None if it is an ordinary message."""
    if descriptor.full_name in _WRAPPERS:
        return _wrapper_writer(descriptor)
    return _WRITERS.get(descriptor.full_name)
