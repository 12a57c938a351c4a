import asyncio
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
from services.chassis.fault import FailpointsRefused, FailpointStale, PlayedFault, ReplyDropped
from services.chassis.testing import until

WAIT_S = 5.0


pytestmark = pytest.mark.usefixtures("quiet_failpoints")

failpoints.site("shop.open.before")
failpoints.site("shop.open.after")
failpoints.site("shop.reply", has_reply=True)


def test_nothing_happens_by_default() -> None:
    failpoints.reach("shop.open.before")


def test_an_unknown_place_is_refused_with_those_that_exist() -> None:
    with pytest.raises(FailpointsRefused, match=r"shop\.opne.*shop\.open\.after, shop\.open\.before"):
        failpoints.configure("shop.opne=exit", production=False)


@pytest.mark.parametrize("text", ["shop.open.before=explode", "shop.open.before=error(NOT_FOUND)"])
def test_what_is_unclear_is_refused(text: str) -> None:
    with pytest.raises(FailpointsRefused):
        failpoints.configure(text, production=False)


def test_replies_are_dropped_where_they_pass_and_nowhere_else() -> None:
    failpoints.configure("shop.reply=drop-reply", production=False)
    with pytest.raises(ReplyDropped):
        failpoints.reach("shop.reply")
    with pytest.raises(FailpointsRefused, match=r"no reply passes shop\.open\.before, only .*shop\.reply"):
        failpoints.configure("shop.open.before=drop-reply", production=False)


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


def test_what_is_set_stands_until_the_file_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "failpoints"
    replaced(file, "shop.open.before=error(UNAVAILABLE)")
    failpoints.follow(file, production=False)
    failpoints.configure("shop.open.after=error(UNAVAILABLE)", production=False)
    assert [raises_at("shop.open.before"), raises_at("shop.open.after")] == [False, True]
    replaced(file, "shop.open.before=error(UNAVAILABLE)")
    assert [raises_at("shop.open.before"), raises_at("shop.open.after")] == [True, False]


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


def test_an_error_is_raised_at_the_visits_named() -> None:
    failpoints.configure("shop.open.before=error(UNAVAILABLE)*2", production=False)
    assert [raises_at("shop.open.before") for _ in range(3)] == [True, True, False]


async def test_an_error_is_raised_in_coroutines_and_by_the_rpc_they_name() -> None:
    failpoints.configure("shop.open.before[GetOrder]=error(ABORTED)", production=False)
    await failpoints.areach("shop.open.before", "CancelOrder")
    with serving("GetOrder"):
        await failpoints.areach("shop.open.before", "CancelOrder")
        with pytest.raises(FailpointStale):
            await failpoints.areach("shop.open.before")


def test_some_of_a_hundred_visits_are_left_to_chance() -> None:
    failpoints.configure("shop.open.before=error(UNAVAILABLE)%50", production=False)
    assert 0 < sum(raises_at("shop.open.before") for _ in range(200)) < 200


async def test_who_hangs_goes_on_when_the_failpoint_is_cleared() -> None:
    failpoints.configure("shop.open.before=hang", production=False)
    hanging = [
        asyncio.create_task(failpoints.areach("shop.open.before")),
        asyncio.create_task(asyncio.to_thread(failpoints.reach, "shop.open.before")),
    ]
    await until(lambda: failpoints.standing()[0].plays == len(hanging))
    failpoints.configure("shop.open.after=hang", production=False)
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*hanging)


async def test_who_hangs_can_be_cancelled() -> None:
    failpoints.configure("shop.open.before=hang", production=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await failpoints.areach("shop.open.before")


def test_nobody_hangs_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "HANG_MAX_S", 0.05)
    failpoints.configure("shop.open.before=hang", production=False)
    assert 0.05 <= seconds_at("shop.open.before") < WAIT_S


async def test_who_hangs_heeds_the_file(tmp_path: Path) -> None:
    replaced(tmp_path / "failpoints", "shop.open.before=hang")
    failpoints.follow(tmp_path / "failpoints", production=False)
    hanging = asyncio.create_task(failpoints.areach("shop.open.before"))
    await until(lambda: bool(failpoints.standing()))
    replaced(tmp_path / "failpoints", "")
    async with asyncio.timeout(WAIT_S):
        await hanging


def test_what_stands_tells_its_visits_and_what_came_of_them() -> None:
    failpoints.configure("shop.open.before[GetOrder]=hang@9;shop.open.after=delay(0)@2", production=False)
    for _ in range(3):
        failpoints.reach("shop.open.after")
    assert [(f"{it.place}={it.fault}", it.visits, it.plays) for it in failpoints.standing()] == [
        ("shop.open.after=delay(0)@2", 3, 1),
        ("shop.open.before[GetOrder]=hang@9", 0, 0),
    ]


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


def raises_at(name: str) -> bool:
    try:
        failpoints.reach(name)
    except PlayedFault:
        return True
    return False


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
