import io
import json
import logging
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

import orjson
import pytest
from bodega.user.v1 import user_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from services.chassis import context, telemetry
from services.chassis.context import RequestContext, TraceContext
from services.chassis.identity.caller import Caller
from services.chassis.log_writer import LogWriter
from services.chassis.metrics import Metrics
from tests.chassis.playground import Ping

WAIT_S = 5.0
log = telemetry.logger("test")


def test_a_line_carries_the_request_at_hand() -> None:
    trace = TraceContext.fresh()
    at_hand = RequestContext(trace, caller=Caller(user_id="u-1"), labels={"order_id": "o-1"})
    with telemetry.captured() as lines, context.working_on(at_hand):
        log.info("order placed", lines=3)
    (line,) = lines
    assert line["time"].endswith("Z")
    assert {name: line[name] for name in line if name not in ("time", "service")} == {
        "level": "info",
        "event": "order placed",
        "logger": "test",
        "trace_id": trace.trace_id,
        "span_id": trace.span_id,
        "caller": "user:u-1",
        "order_id": "o-1",
        "lines": 3,
    }


def test_levels_below_are_not_written() -> None:
    with telemetry.captured("warning") as lines:
        log.debug("no")
        log.info("no")
        log.warning("yes")
        log.error("yes")
    assert [line["event"] for line in lines] == ["yes", "yes"]


def test_an_exception_brings_its_stack() -> None:
    with telemetry.captured() as lines:
        try:
            int("why")
        except ValueError:
            log.exception("it failed")
    assert lines[0]["level"] == "error"
    assert "ValueError: invalid literal" in lines[0]["stack"]


def test_a_message_that_slips_into_a_line_is_redacted() -> None:
    with telemetry.captured() as lines:
        log.info("careless", request=user_pb2.RegisterUserRequest(password="hunter2", username="ann"))
    assert lines[0]["request"]["username"] == "ann"
    assert "hunter2" not in json.dumps(lines)


def test_redaction_reaches_into_everything() -> None:
    shown = telemetry.redacted(Ping(name="n", secret="hunter2", lines=[{"quantity": 2}]))
    assert shown == {"name": "n", "secret": telemetry.REDACTED, "lines": [{"quantity": 2}]}
    packed = AnyMessage()
    packed.Pack(Ping(secret="hunter2"))
    assert telemetry.redacted(packed) == {"type_url": packed.type_url}


def test_what_cannot_be_json_is_shown_as_text() -> None:
    with telemetry.captured() as lines:
        log.info("odd", thing={1, 2}.__class__, where=complex(1, 2))
    assert lines[0]["where"] == "(1+2j)"


def test_a_program_writes_its_last_lines_and_those_of_its_libraries() -> None:
    program = (
        "import logging\n"
        "from services.chassis import telemetry\n"
        "telemetry.configure_logging('shop')\n"
        "telemetry.logger('a').info('first')\n"
        "telemetry.logger('a').debug('unseen')\n"
        "logging.getLogger('grpc').error('odd %s', 'thing')\n"
        "telemetry.logger('a').info('last')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=30)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["service"]) for line in lines] == [
        ("first", "shop"),
        ("odd thing", "shop"),
        ("last", "shop"),
    ]


def test_configuring_twice_does_not_write_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.root.level)
    before = telemetry._output
    first, second = io.BytesIO(), io.BytesIO()
    try:
        telemetry.configure_logging("a", stream=first)
        telemetry.configure_logging("b", stream=second)
        log.info("once")
        telemetry.flush_logs()
    finally:
        telemetry._replace(before)
        logging.captureWarnings(capture=False)
    assert first.getvalue() == b""
    assert second.getvalue().count(b"once") == 1


class Stuck:
    """A reader that reads nothing until let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = threading.Event()
        self.written = b""

    def write(self, data: bytes) -> None:
        self.asked.set()
        assert self.go.wait(WAIT_S)
        self.written += data

    def flush(self) -> None: ...


def test_a_stuck_reader_blocks_nobody_and_is_told_what_it_missed() -> None:
    stream = Stuck()
    writer = LogWriter(cast("BinaryIO", stream), lines_max=10, lost_line=lambda count: b"lost %d\n" % count)
    writer.put(b"first\n", urgent=True)
    assert stream.asked.wait(WAIT_S)
    for number in range(25):
        writer.put(b"%d\n" % number)
    stream.go.set()
    writer.flush()
    lines = stream.written.splitlines()
    assert lines[0] == b"first"
    assert lines[1:11] == [b"%d" % number for number in range(10)]
    assert lines[11:] == [b"lost 15"]


def test_lines_of_many_threads_are_all_written_and_whole() -> None:
    stream = io.BytesIO()
    writer = LogWriter(stream)

    def write() -> None:
        for _ in range(500):
            writer.put(b"x" * 50 + b"\n")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    writer.flush()
    assert stream.getvalue() == (b"x" * 50 + b"\n") * 4000


def test_a_line_that_cannot_be_rendered_takes_no_other_with_it() -> None:
    stream = io.BytesIO()
    writer = LogWriter(stream, lost_line=lambda count: b"lost %d\n" % count)
    writer.put(b"before\n")
    writer.put(lambda: orjson.dumps("\ud800"))
    writer.put(lambda: b"after\n")
    writer.flush()
    assert stream.getvalue() == b"before\nafter\nlost 1\n"


def test_a_line_rendered_later_is_of_when_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = list[Any]()
    monkeypatch.setattr(telemetry._output, "put", lambda line, _urgent: kept.append(line))
    monkeypatch.setattr(telemetry._output, "level", telemetry.LEVELS["info"])
    at_hand = RequestContext(TraceContext.fresh())
    began = datetime.now(UTC)
    with context.working_on(at_hand):
        log.info_later("placed", lines=3)
    ended = datetime.now(UTC)
    with context.working_on(RequestContext(TraceContext.fresh())):
        line = json.loads(kept[0]())
    assert (line["event"], line["lines"], line["trace_id"]) == ("placed", 3, at_hand.trace.trace_id)
    assert began <= datetime.fromisoformat(line["time"]) <= ended


def test_a_reader_that_is_gone_is_no_error() -> None:
    stream = io.BytesIO()
    stream.close()
    writer = LogWriter(stream)
    writer.put(b"x\n")
    writer.flush()


def test_a_gauge_is_read_at_each_scrape() -> None:
    metrics = Metrics()
    lag: dict[str, Any] = {"rows": 3}
    metrics.gauge("outbox_lag_rows", "Rows not published yet.", lambda: lag["rows"])
    assert metrics.registry.get_sample_value("outbox_lag_rows") == 3
    lag["rows"] = 4
    assert metrics.registry.get_sample_value("outbox_lag_rows") == 4
