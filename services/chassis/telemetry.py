"""Logs and metrics.

Every log line is one JSON object with time, level, service and, while a request is being worked on, its
trace, its caller and its labels. Messages of callers are never logged; where one must be shown,
`redacted` leaves out what the contract marks as secret.
"""

import atexit
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

import orjson
from google.protobuf import any_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.chassis import context
from services.chassis.context import RequestContext
from services.chassis.log_writer import Line, LogWriter, rendered
from services.chassis.redaction import is_secret

REDACTED: Final = "[redacted]"

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

# Libraries that tell at INFO what our own lines already say.
_CHATTY: Final = ("uvicorn", "nats", "sqlalchemy", "alembic", "asyncio")


class Logger(Protocol):
    """What `logger` returns: an event in a few constant words, its figures as keywords."""

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def info_later(self, event: str, **fields: Any) -> None:
        """The same for lines so many that they cost something: rendered when written, many in a row.

        What the fields are must not change any more.
        """

    def warning(self, event: str, **fields: Any) -> None: ...
    def error(self, event: str, **fields: Any) -> None: ...
    def exception(self, event: str, **fields: Any) -> None:
        """An error with the stack of the exception being handled."""


@dataclass(slots=True)
class _Output:
    """Where lines go; one per process, replaced by `configure_logging` and `captured`."""

    service: str
    level: int
    put: Callable[[Line, bool], None]
    flush: Callable[[], None]


def _print(line: Line, _urgent: bool) -> None:  # noqa: FBT001
    sys.stderr.write(rendered(line).decode())


_output = _Output("", LEVELS["warning"], _print, lambda: None)


def configure_logging(service: str, level: str = "info", stream: BinaryIO | None = None) -> None:
    """Sends the lines of this process to `stream` (standard error), from `level` on, under this name.

    Other libraries' logging is sent the same way, so that everything on the stream is JSON.
    """
    writer = LogWriter(stream or sys.stderr.buffer, lost_line=_lost_line)
    _replace(
        _Output(service, LEVELS[level], lambda line, urgent: writer.put(line, urgent=urgent), writer.flush)
    )
    atexit.register(writer.flush)
    logging.captureWarnings(capture=True)
    logging.root.handlers = [_Bridge()]
    logging.root.setLevel(LEVELS[level])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(LEVELS[level], LEVELS["warning"]))


def flush_logs() -> None:
    """Everything logged so far is written, for those about to leave without Python's usual goodbyes."""
    _output.flush()


def logger(name: str) -> Logger:
    """The logger of a module. Making one touches nothing, so it may be done at import."""
    return _Lines(name)


@contextmanager
def captured(level: str = "debug") -> Iterator[list[dict[str, Any]]]:
    """Collects the lines logged inside as dictionaries instead of writing them; for tests."""
    lines: list[dict[str, Any]] = []
    before = _replace(
        _Output(
            _output.service,
            LEVELS[level],
            lambda line, _urgent: lines.append(orjson.loads(rendered(line))),
            lambda: None,
        )
    )
    try:
        yield lines
    finally:
        _replace(before)


def redacted(message: Message) -> dict[str, Any]:
    """The message as plain values for people, without what its contract marks `debug_redact`.

    (protobuf's own str and repr ignore that option.) Bytes are shown as their length: they may hide anything.
    """
    if isinstance(message, any_pb2.Any):
        return {"type_url": message.type_url}
    return {field.name: _shown(field, value) for field, value in message.ListFields()}


def _shown(field: FieldDescriptor, value: Any) -> Any:
    if is_secret(field):
        return REDACTED
    entry = field.message_type if field.message_type and field.message_type.GetOptions().map_entry else None
    if entry is not None:
        of_value = entry.fields_by_name["value"]
        return {str(key): _shown_one(of_value, value[key]) for key in value}
    if field.is_repeated:
        return [_shown_one(field, item) for item in value]
    return _shown_one(field, value)


def _shown_one(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        return redacted(value)
    if isinstance(value, bytes):
        return f"[{len(value)} bytes]"
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return value


class _Lines:
    """Renders a line at once, in as few steps as there can be: every call that is served writes one."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, event: str, **fields: Any) -> None:
        if _output.level <= LEVELS["debug"]:
            _output.put(_render("debug", self._name, event, fields), False)

    def info(self, event: str, **fields: Any) -> None:
        if _output.level <= LEVELS["info"]:
            _output.put(_render("info", self._name, event, fields), False)

    def info_later(self, event: str, **fields: Any) -> None:
        if _output.level <= LEVELS["info"]:
            then = _Moment(time.time(), context.current())
            _output.put(partial(_render, "info", self._name, event, fields, then), False)

    def warning(self, event: str, **fields: Any) -> None:
        if _output.level <= LEVELS["warning"]:
            _output.put(_render("warning", self._name, event, fields), False)

    def error(self, event: str, **fields: Any) -> None:
        if _output.level <= LEVELS["error"]:
            _output.put(_render("error", self._name, event, fields), True)

    def exception(self, event: str, **fields: Any) -> None:
        self.error(event, exc_info=True, **fields)


class _Bridge(logging.Handler):
    """Takes what libraries say to the standard logging module."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {"exc_info": record.exc_info} if record.exc_info else {}
            line = _render(record.levelname.lower(), record.name, record.getMessage(), fields)
            _output.put(line, record.levelno >= LEVELS["error"])
        except Exception:  # noqa: BLE001 (as logging asks of its handlers)
            self.handleError(record)


def _replace(output: _Output) -> _Output:
    global _output
    before, _output = _output, output
    return before


class _Moment(NamedTuple):
    """When something was to be told, and what was at hand."""

    at: float
    request: RequestContext | None


def _render(
    level: str, name: str, event: str, fields: dict[str, Any], moment: _Moment | None = None
) -> bytes:
    at, request = moment or (time.time(), context.current())
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(at, UTC),
        "level": level,
        "service": _output.service,
        "event": event,
        "logger": name,
    }
    if request is not None:
        line["trace_id"] = request.trace.trace_id
        line["span_id"] = request.trace.span_id
        if request.caller.name:
            line["caller"] = request.caller.name
        line.update(request.labels)
    failure = fields.pop("exc_info", None)
    line.update(fields)
    if failure:
        line["stack"] = _stack(failure)
    return orjson.dumps(line, _plain, orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def _stack(failure: Any) -> str:
    if isinstance(failure, BaseException):
        return "".join(traceback.format_exception(failure))
    if isinstance(failure, tuple):
        return "".join(traceback.format_exception(*failure))
    return traceback.format_exc()


def _plain(value: Any) -> Any:
    return redacted(value) if isinstance(value, Message) else str(value)


def _lost_line(count: int) -> bytes:
    return _render("warning", "log", "log lines lost", {"count": count})
