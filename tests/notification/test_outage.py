import pytest

from services.chassis.testing import FakeClock
from services.notification.outage import BACKOFF, Outage

USUAL = 32


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_while_something_gets_through_nothing_is_held_back(clock: FakeClock) -> None:
    outage = begun(clock)
    assert (outage.is_on, outage.rest_s(), outage.sends_max(USUAL)) == (False, 0.0, USUAL)


def test_when_nothing_gets_through_all_rest_and_then_one_asks_for_all(clock: FakeClock) -> None:
    outage = begun(clock)
    assert outage.failed()
    assert (outage.is_on, outage.rest_s(), outage.sends_max(USUAL)) == (True, BACKOFF.first_s, 0)
    clock.advance(BACKOFF.first_s)
    assert (outage.rest_s(), outage.sends_max(USUAL)) == (0.0, 1)
    outage.over()
    assert (outage.is_on, outage.sends_max(USUAL)) == (False, USUAL)


def test_those_that_fail_together_fail_once(clock: FakeClock) -> None:
    outage = begun(clock)
    assert [outage.failed() for _ in range(USUAL)] == [True] + [False] * (USUAL - 1)
    assert outage.rest_s() == BACKOFF.first_s


def test_the_rests_grow_to_a_limit_and_are_short_again_after_the_next_success(clock: FakeClock) -> None:
    outage = begun(clock)
    rests = []
    for _ in range(10):
        outage.failed()
        rests.append(outage.rest_s())
        clock.advance(rests[-1])
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]
    outage.over()
    outage.failed()
    assert outage.rest_s() == 1.0


def begun(clock: FakeClock) -> Outage:
    return Outage(monotonic=clock.monotonic, random=lambda: 1.0)
