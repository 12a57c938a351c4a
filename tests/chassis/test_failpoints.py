import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bodega.order.v1 import order_pb2

from services.chassis import context, contract, failpoints
from services.chassis.context import RequestContext, TraceContext
from services.chassis.failpoints import FailpointsRefused


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    failpoints.site("shop.open.before")
    failpoints.site("shop.open.after")
    yield
    failpoints.follow(None, production=False)
    failpoints.configure("", production=False)


def test_nothing_happens_by_default() -> None:
    failpoints.reach("shop.open.before")


def test_an_unknown_place_is_refused_with_those_that_exist() -> None:
    with pytest.raises(FailpointsRefused, match=r"shop\.opne.*shop\.open\.after, shop\.open\.before"):
        failpoints.configure("shop.opne=exit", production=False)


@pytest.mark.parametrize(
    "text",
    ["shop.open.before", "shop.open.before=explode", "shop.open.before=delay", "shop.open.before=delay(-1)",
     "shop.open.before=exit@0", "shop.open.before=delay(61)", "=exit"],
)  # fmt: skip
def test_what_is_unclear_is_refused(text: str) -> None:
    with pytest.raises(FailpointsRefused):
        failpoints.configure(text, production=False)


def test_production_refuses_all_but_none() -> None:
    failpoints.configure("", production=True)
    with pytest.raises(FailpointsRefused, match="production"):
        failpoints.configure_from_environment({failpoints.VARIABLE: "shop.open.before=exit"}, production=True)


def test_a_refused_text_changes_nothing() -> None:
    failpoints.configure("shop.open.before=delay(0.05)", production=False)
    with pytest.raises(FailpointsRefused):
        failpoints.configure("nowhere=exit", production=False)
    assert seconds_at("shop.open.before") >= 0.05


def test_a_delay_waits_at_the_visit_named_and_no_other() -> None:
    failpoints.configure("shop.open.before=delay(0.05)@2; shop.open.after=delay(0)", production=False)
    assert [seconds_at("shop.open.before") >= 0.05 for _ in range(3)] == [False, True, False]


def test_a_place_can_be_one_of_a_single_rpc() -> None:
    failpoints.configure("shop.open.before[CancelOrder]=delay(0.05)@2", production=False)
    assert seconds_at("shop.open.before") < 0.05
    with serving("CancelOrder"):
        assert [seconds_at("shop.open.before") >= 0.05 for _ in range(3)] == [False, True, False]
    with serving("GetOrder"):
        assert seconds_at("shop.open.before") < 0.05


def test_a_file_counts_from_the_moment_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "failpoints"
    failpoints.configure_from_environment({failpoints.FILE_VARIABLE: str(file)}, production=False)
    assert seconds_at("shop.open.before") < 0.05
    for _ in range(2):
        replaced(file, "shop.open.before=delay(0.05)@1")
        assert [seconds_at("shop.open.before") >= 0.05 for _ in range(2)] == [True, False]
    file.unlink()
    assert seconds_at("shop.open.before") < 0.05


def test_production_follows_no_file(tmp_path: Path) -> None:
    with pytest.raises(FailpointsRefused, match="production"):
        failpoints.follow(tmp_path / "failpoints", production=True)


def test_a_file_that_is_not_understood_ends_the_process(tmp_path: Path) -> None:
    file = tmp_path / "failpoints"
    file.write_text("a.c=exit")
    program = (
        "from pathlib import Path\nfrom services.chassis import failpoints as f\n"
        f"f.site('a.b'); f.follow(Path({str(file)!r}), production=False); f.reach('a.b')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == failpoints.EXIT_REFUSED
    assert "a.c" in done.stderr


async def test_coroutines_wait_too() -> None:
    failpoints.configure("shop.open.before=delay(0.05)", production=False)
    begun = time.monotonic()
    await failpoints.areach("shop.open.before")
    await failpoints.areach("shop.open.after")
    assert time.monotonic() - begun >= 0.05


def test_exit_leaves_like_a_killed_process_at_the_second_visit() -> None:
    program = (
        "from services.chassis import failpoints as f\n"
        "f.site('a.b'); f.configure('a.b=exit@2', production=False)\n"
        "try:\n"
        "    f.reach('a.b'); print('once', flush=True); f.reach('a.b')\n"
        "finally:\n"
        "    print('cleaned up')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == failpoints.EXIT_CODE
    assert done.stdout == "once\n"
    assert "a.b" in done.stderr


def seconds_at(name: str) -> float:
    begun = time.monotonic()
    failpoints.reach(name)
    return time.monotonic() - begun


def replaced(file: Path, text: str) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(file)


@contextmanager
def serving(name: str) -> Iterator[None]:
    """As if this RPC of the order service were being served."""
    method = contract.by_path(order_pb2.DESCRIPTOR)[f"/bodega.order.v1.OrderService/{name}"]
    with context.working_on(RequestContext(trace=TraceContext.fresh(), method=method)):
        yield
