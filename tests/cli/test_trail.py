"""`bodega audit show` where no shop runs: what stands in the books, found and put into lines."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.chassis.storage.audit_trail import TRAIL
from services.chassis.storage.sqlite import engine_for_migrations
from services.cli.data_folder import sqlite_url
from tests.cli.test_verify import bodega

NOON = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z
MINUTE = 60_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with three rows, each in the book of another service, the newest in the first."""
    folder = tmp_path_factory.mktemp("audit") / "shop"
    assert bodega("migrate", "--data", str(folder)).returncode == 0
    _write(folder, "order", kind="act", create_time=NOON, actor="user:sue", roles="support",
           method="/bodega.order.v1.OrderService/CancelOrder", subject='{"order_id":"o-1"}',
           outcome="OK", request_id="r-1", trace_id=TRACE)  # fmt: skip
    _write(folder, "payment", kind="denied", create_time=NOON + MINUTE, times=7, actor="workload:order",
           on_behalf_of="user:ada", method="/bodega.payment.v1.PaymentService/GetPayment",
           outcome="NOT_ALLOWED")  # fmt: skip
    _write(folder, "user", kind="denied", create_time=NOON + 2 * MINUTE, address="203.0.113.7",
           method="/bodega.user.v1.UserService/GetUser", outcome="NOT_SIGNED_IN")  # fmt: skip
    return folder


def _write(folder: Path, service: str, **row: object) -> None:
    empty = dict.fromkeys(("actor", "on_behalf_of", "roles", "address", "request_id", "trace_id"), "")
    engine = engine_for_migrations(sqlite_url(folder / "databases" / f"{service}.db"))
    with engine.begin() as books:
        books.execute(sa.insert(TRAIL).values({**empty, "times": 1, "subject": "{}", **row}))
    engine.dispose()


def show(data: Path, *options: str) -> list[str]:
    return _done(data, *options).stdout.splitlines()


def _done(data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    done = bodega("audit", "show", "--data", str(data), *options)
    assert (done.returncode, done.stderr) == (0, "")
    return done


def test_all_books_are_shown_as_one_the_newest_row_last(data: Path) -> None:
    act, denied, strange = show(data)
    assert act == (
        "2026-01-01T12:00:00.000Z  order         act     OK               OrderService/CancelOrder  "
        f"user:sue  as support  order_id=o-1  request r-1  trace {TRACE}"
    )
    assert denied == (
        "2026-01-01T12:01:00.000Z  payment       denied  NOT_ALLOWED      PaymentService/GetPayment  "
        "workload:order  for user:ada  7 times"
    )
    assert strange == (
        "2026-01-01T12:02:00.000Z  user          denied  NOT_SIGNED_IN    UserService/GetUser  "
        "nobody  from 203.0.113.7"
    )


@pytest.mark.parametrize(
    ("options", "services"),
    [
        (("--acts",), ["order"]),
        (("--denied",), ["payment", "user"]),
        (("--service", "user", "--service", "order"), ["order", "user"]),
        (("--actor", "user:sue"), ["order"]),
        (("--actor", "ada"), ["payment"]),
        (("--actor", "nobody-known"), []),
        (("--since", "2026-01-01T12:01:00+00:00"), ["payment", "user"]),
        (("--limit", "2"), ["payment", "user"]),
    ],
)
def test_what_is_asked_for_is_shown(data: Path, options: tuple[str, ...], services: list[str]) -> None:
    rows: list[dict[str, Any]] = [json.loads(line) for line in show(data, "--json", *options)]
    assert [row["service"] for row in rows] == services


def test_programs_get_every_column(data: Path) -> None:
    (row,) = (json.loads(line) for line in show(data, "--json", "--acts"))
    assert row == {
        "service": "order",
        "seq": 1,
        "kind": "act",
        "create_time": "2026-01-01T12:00:00Z",
        "times": 1,
        "actor": "user:sue",
        "on_behalf_of": "",
        "roles": "support",
        "address": "",
        "method": "/bodega.order.v1.OrderService/CancelOrder",
        "subject": {"order_id": "o-1"},
        "outcome": "OK",
        "request_id": "r-1",
        "trace_id": TRACE,
    }


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--denied", "--acts"), "exclude each other"),
        (("--service", "gateway"), "keeps no audit trail"),
        (("--since", "yesterday"), "neither a time"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(data: Path, options: tuple[str, ...], why: str) -> None:
    done = bodega("audit", "show", "--data", str(data), *options)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert why in line


def test_where_there_is_no_shop_there_is_nothing_to_show(tmp_path: Path) -> None:
    done = bodega("audit", "show", "--data", str(tmp_path / "nothing"))
    assert done.returncode == 2
    assert "there is no shop" in done.stderr
