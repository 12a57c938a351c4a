import pytest

from services.chassis.policy.lag import EVERY_S, KEPT, NOTICED_S, Lag


def ticked(*at: float) -> Lag:
    lag = Lag()
    for now in at:
        lag.ticked(now)
    return lag


STEADY = tuple(n * EVERY_S for n in range(21))  # for a second
LATE = (*STEADY, 1 + EVERY_S + 2.0)  # then one that comes two seconds late, at 3.05


@pytest.mark.parametrize(
    ("ticks", "since", "now", "lost_s"),
    [
        ((), 0.0, 9.0, 0.0),
        (STEADY, 0.0, 1.0, 0.0),
        (LATE, 0.0, 3.05, 2.0),
        (LATE, 2.55, 3.05, 0.5),  # of a call that began meanwhile
        (LATE, 3.06, 3.07, 0.0),  # and of one that began after it
        (STEADY, 0.0, 3.05, 2.0),  # the tick is still due
        (STEADY, 2.55, 3.05, 0.5),
        ((*LATE, 3.1, 4.15), 0.0, 4.15, 3.0),
        ((0.0, EVERY_S + NOTICED_S / 2), 0.0, EVERY_S + NOTICED_S / 2, 0.0),
    ],
)
def test_what_was_lost_since(ticks: tuple[float, ...], since: float, now: float, lost_s: float) -> None:
    assert ticked(*ticks).lost_s(since, now) == pytest.approx(lost_s)


def test_two_minutes_are_remembered() -> None:
    lag = ticked(*(n * (EVERY_S + 0.05) for n in range(2 * KEPT)))
    now = (2 * KEPT - 1) * (EVERY_S + 0.05)
    assert lag.lost_s(0.0, now) == pytest.approx(KEPT * 0.05)
