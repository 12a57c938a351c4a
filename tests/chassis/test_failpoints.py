import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from services.chassis import failpoints
from services.chassis.failpoints import FailpointsRefused


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    failpoints.site("shop.open.before")
    failpoints.site("shop.open.after")
    yield
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
