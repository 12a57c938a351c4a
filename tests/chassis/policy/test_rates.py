"""How often one may ask, in a time that obeys; see tests/gateway/test_limits.py, too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.policy.rates import Windows

PER_S = 10


@pytest.mark.parametrize(
    ("asked_at", "allowed"),
    [
        ((0, 1, 2, 3), (True, True, True, False)),
        ((0, 0, 0, 10), (True, True, True, False)),  # all of the last window is in sight
        ((0, 0, 0, 14, 14, 14), (True, True, True, True, True, False)),  # a good half of it
        ((0, 0, 0, 25), (True, True, True, True)),
    ],
)
def test_a_window_slides(asked_at: tuple[float, ...], allowed: tuple[bool, ...]) -> None:
    windows = Windows()
    assert tuple(windows.admit("ada", 3, PER_S, at) for at in asked_at) == allowed


def test_everyone_has_a_window_and_only_so_many_are_kept() -> None:
    windows = Windows(kept_max=2)
    assert [windows.admit(who, 1, PER_S, 0) for who in ("ada", "bob", "ada")] == [True, True, False]
    assert windows.admit("eve", 1, PER_S, 0)
    assert len(windows) == 2
    assert not windows.admit("bob", 1, PER_S, 0)
    assert windows.admit("ada", 1, PER_S, 0), "the oldest goes first"


@given(st.lists(st.floats(0, 5), max_size=60), st.integers(1, 10))
def test_who_comes_back_when_told_is_let_in_and_not_much_sooner(pauses: list[float], requests: int) -> None:
    windows, now = Windows(), 1000.0
    for pause in pauses:
        now += pause
        if windows.admit("ada", requests, PER_S, now):
            continue
        wait_s = windows.retry_in_s("ada", requests, PER_S, now)
        assert 0 <= wait_s <= 2 * PER_S
        if wait_s > 0.01:
            assert not windows.admit("ada", requests, PER_S, now + wait_s - 0.01)
        now += wait_s + 1e-6
        assert windows.admit("ada", requests, PER_S, now)
