"""What waits after an outage, let go by a pacer in a world whose time moves by the hundredth of a second."""

import math
from collections import Counter
from dataclasses import dataclass, field

import pytest

from services.chassis.policy.pacing import DEFAULT, Ending, Limits, Pacer

STEP_S = 0.01
SECOND = round(1 / STEP_S)
USUAL_PER_S = 50  # comes anew, all the time


@dataclass
class Shop:
    """So much comes anew in each second, and so much waits; what is let go ends a moment later."""

    usual_per_s: int
    waiting: int = 0
    takes_s: float = 0.01
    ending: Ending = Ending.THROUGH
    pacer: Pacer = field(default_factory=Pacer)
    now: float = 1000.0
    let_go: list[float] = field(default_factory=list)
    under_way: list[float] = field(default_factory=list)

    def step(self) -> None:
        self.now += STEP_S
        if self.usual_per_s and round(self.now / STEP_S) % (SECOND // self.usual_per_s) == 0:
            self.pacer.came_anew(self.now)
        while self.under_way and self.under_way[0] <= self.now:
            self.under_way.pop(0)
            self.pacer.ended(self.ending)
            self.waiting += self.ending is not Ending.THROUGH
        if not self.waiting:
            self.pacer.nothing_waits()
            return
        number = min(self.pacer.room(self.now), self.waiting)
        self.pacer.let_go(number)
        self.waiting -= number
        self.let_go += [self.now] * number
        self.under_way += [self.now + self.takes_s] * number

    def run(self, seconds: float) -> int:
        """How many are let go in that time."""
        before = len(self.let_go)
        for _ in range(round(seconds / STEP_S)):
            self.step()
        return len(self.let_go) - before

    def drained_in_s(self) -> float:
        began = self.now
        while self.waiting or self.under_way:
            self.step()
        return self.now - began


def open_for_long(usual_per_s: int = USUAL_PER_S) -> Shop:
    shop = Shop(usual_per_s)
    shop.run(5 * DEFAULT.usual_s)
    return shop


def test_one_that_waited_a_moment_goes_at_once() -> None:
    shop = Shop(usual_per_s=0, waiting=1)
    shop.step()
    assert shop.let_go == [shop.now]


@pytest.mark.parametrize(
    ("usual_per_s", "per_s"),
    [
        (0, DEFAULT.least_per_s),
        (5, DEFAULT.least_per_s),
        (50, 50 * DEFAULT.share),
    ],
)
def test_what_waited_goes_by_how_much_comes_anew(usual_per_s: int, per_s: float) -> None:
    shop = open_for_long(usual_per_s)
    assert shop.pacer.per_s == pytest.approx(per_s, rel=0.05)
    shop.waiting = 10_000
    assert 0.9 * per_s <= shop.run(1.0) <= per_s * (1.1 + DEFAULT.burst_s)
    assert max(Counter(shop.let_go).values()) <= per_s * DEFAULT.burst_s * 1.1


@pytest.mark.parametrize("outage_s", [10, 60, 600, 3600])
def test_what_an_outage_left_is_gone_in_a_time_that_grows_with_its_logarithm(outage_s: float) -> None:
    shop = open_for_long()
    shop.waiting = round(USUAL_PER_S * outage_s)
    assert shop.drained_in_s() == pytest.approx(100 * math.log(1 + outage_s / 200), rel=0.1, abs=1.0)


def test_what_fails_takes_back_what_was_learned_and_no_more() -> None:
    shop = open_for_long()
    shop.waiting = 1_000_000
    shop.run(120.0)
    assert shop.pacer.per_s > 3 * DEFAULT.share * USUAL_PER_S
    shop.ending = Ending.FAILED
    shop.run(1.0)
    assert shop.pacer.per_s == pytest.approx(DEFAULT.share * USUAL_PER_S, rel=0.05)


def test_the_next_backlog_begins_anew() -> None:
    shop = open_for_long()
    shop.waiting = 20_000
    assert shop.drained_in_s() > 10
    shop.step()
    assert shop.pacer.per_s == pytest.approx(DEFAULT.share * USUAL_PER_S, rel=0.05)


def test_what_never_reached_the_neighbour_makes_room_for_another() -> None:
    shop = open_for_long()
    shop.ending, shop.waiting = Ending.UNSENT, 10_000
    pace = DEFAULT.share * USUAL_PER_S
    assert shop.run(5.0) > 3 * 5.0 * pace
    shop.ending = Ending.THROUGH
    shop.run(shop.takes_s)  # what is under way was let go while it cost nothing
    assert shop.run(1.0) <= pace * 1.2 + DEFAULT.burst_s * pace, "and when it is back, no more than is due"


def test_of_slow_ones_only_so_many_are_under_way() -> None:
    shop = open_for_long()
    shop.takes_s, shop.waiting = 10.0, 10_000
    assert shop.run(9.0) == DEFAULT.under_way_max
    assert 0 < shop.pacer.ready_in_s(shop.now) <= DEFAULT.burst_s


def test_who_waits_until_it_is_ready_finds_room() -> None:
    pacer = Pacer(Limits(least_per_s=8.0, burst_s=0.5))
    assert (pacer.ready_in_s(10.0), pacer.room(10.0)) == (0.0, 4)
    pacer.let_go(3)
    assert (pacer.ready_in_s(10.0), pacer.room(10.0)) == (0.125, 0)
    assert pacer.room(10.125) == 2
