"""A server that does so many calls at once, in a world whose time moves by the hundredth of a second."""

from collections import Counter, deque
from itertools import pairwise

import pytest

from services.chassis.policy import limiter
from services.chassis.policy.limiter import Limiter, Pace, Priority, Range, priority_of, waits
from tests.chassis.playground import METHODS

STEP_S = 0.01
LATE_S = 2.0
RANGE = Range(first=512, least=8, most=4096)


class Server:
    """Does `per_step` calls each step, the oldest first; each takes a step at least."""

    def __init__(self, within: Range = RANGE, per_step: int = 4) -> None:
        self.limiter = Limiter(within)
        self.per_step = per_step
        self.now = 100.0
        self.done: Counter[Priority] = Counter()
        self.refused: Counter[Priority] = Counter()
        self.late = 0
        self.slowest_s = 0.0
        self._paces = {priority: self.limiter.pace(priority) for priority in Priority}
        self._waiting: deque[tuple[float, Priority]] = deque()

    def step(self, *arrivals: Priority) -> None:
        for priority in arrivals:
            if self.limiter.enter(priority):
                self._waiting.append((self.now, priority))
            else:
                self.refused[priority] += 1
        self.now += STEP_S
        for _ in range(min(self.per_step, len(self._waiting))):
            began, priority = self._waiting.popleft()
            took_s = self.now - began
            self.limiter.leave_after(self._paces[priority], took_s, self.now)
            self.slowest_s = max(self.slowest_s, took_s)
            if took_s <= LATE_S:
                self.done[priority] += 1
            else:
                self.late += 1

    def run(self, seconds: float, *arrivals: Priority) -> None:
        self.done, self.refused, self.late, self.slowest_s = Counter(), Counter(), 0, 0.0
        for _ in range(round(seconds / STEP_S)):
            self.step(*arrivals)


CALM = (Priority.NORMAL, Priority.NORMAL)
STORM = (Priority.CRITICAL, *(Priority.NORMAL,) * 8, *(Priority.SHEDDABLE,) * 3)  # three times what it can do


@pytest.fixture
def server() -> Server:
    made = Server()
    made.run(5, *CALM)
    return made


def test_who_is_not_at_the_limit_is_refused_nothing(server: Server) -> None:
    assert not server.refused
    assert server.limiter.limit == RANGE.first, "and teaches nothing about it"


def test_at_three_times_its_capacity_a_server_does_as_much_as_ever(server: Server) -> None:
    server.run(10, *STORM)
    server.run(20, *STORM)
    assert server.done.total() >= 0.95 * 20 / STEP_S * server.per_step
    assert server.late == 0
    assert server.slowest_s < 0.5, "what is let in is done soon"


def test_critical_calls_are_all_done_and_sheddable_ones_go_first(server: Server) -> None:
    server.run(10, *STORM)
    server.run(20, *STORM)
    assert server.refused[Priority.CRITICAL] == 0
    share_refused = {
        priority: server.refused[priority] / (20 / STEP_S * STORM.count(priority)) for priority in Priority
    }
    assert share_refused[Priority.SHEDDABLE] > share_refused[Priority.NORMAL]


def test_without_a_limit_the_same_server_would_do_nothing_in_time() -> None:
    boundless = Server(Range(first=10**6, least=10**6, most=10**6))
    boundless.run(10, *STORM)
    boundless.run(20, *STORM)
    assert boundless.done.total() == 0


def test_it_knows_when_it_is_slow(server: Server) -> None:
    assert not server.limiter.is_slow
    server.run(1, *STORM)
    assert server.limiter.is_slow
    server.run(10, *CALM)
    assert not server.limiter.is_slow


def test_ten_seconds_after_a_storm_nobody_is_refused(server: Server) -> None:
    server.run(60, *STORM)
    server.run(10, *CALM)
    assert not server.refused
    server.run(10, *(Priority.SHEDDABLE,) * 4)  # all that it can do
    assert not server.refused


def test_a_storm_does_not_become_the_usual(server: Server) -> None:
    server.run(10, *STORM)
    server.run(100, *STORM)
    assert server.slowest_s < 0.6


def test_what_has_become_faster_is_asked_more_of_at_once(server: Server) -> None:
    server.run(10, *STORM)
    narrow = server.limiter.limit
    server.per_step = 40
    server.run(10, *(Priority.NORMAL,) * 36)
    assert server.limiter.limit > narrow
    server.run(5, *(Priority.NORMAL,) * 36)
    assert not server.refused


def test_who_is_told_to_let_everyone_in_refuses_nobody_until_told_otherwise(server: Server) -> None:
    server.run(10, *STORM)
    server.limiter.enforce(False)
    server.run(1, *STORM)
    assert not server.refused
    server.limiter.enforce(True)
    server.run(1, *STORM)
    assert server.refused.total() > 0


def test_what_was_let_in_before_the_limit_fell_is_not_held_against_critical_calls(server: Server) -> None:
    limit = server.limiter
    for _ in range(1000):
        server.step(*(Priority.NORMAL,) * 12)
        if limit.in_flight > 2 * limit.limit:
            break
    backlog = limit.in_flight
    assert backlog > 2 * limit.limit
    assert sum(limit.enter(Priority.CRITICAL) for _ in range(backlog)) == 2 * limit.limit


def test_critical_calls_alone_are_bounded_too(server: Server) -> None:
    server.run(20, *(Priority.CRITICAL,) * 12)
    assert server.refused[Priority.CRITICAL] > 0
    assert server.late == 0


@pytest.mark.parametrize(
    ("usual_s", "late_s", "is_slow"),
    [
        (0.001, 0.050, False),  # fifty times the usual, and nobody notices
        (0.001, 0.200, True),
        (0.500, 0.900, False),  # four tenths more, within what such calls differ by
        (0.500, 1.100, True),
    ],
)
def test_slow_is_what_takes_twice_as_long_and_a_tenth_of_a_second_more(
    usual_s: float, late_s: float, *, is_slow: bool
) -> None:
    pace = Pace()
    pace.usual_s = usual_s
    pace.calls, pace.seconds = 10, 10 * late_s
    slowness, calls = pace.judge(limiter.WINDOW_S, is_full=True)
    assert (slowness > 1) is is_slow
    assert (calls, pace.calls, pace.seconds) == (10, 0, 0.0)


@pytest.mark.parametrize(
    ("late_s", "is_full", "expected_s"),
    [
        (0.010, True, 0.063),  # what is faster is believed within a second
        (0.200, False, 0.107),  # what is slower within some, while there is room
        (0.200, True, 0.100),  # and hardly while there is none
    ],
)
def test_usual_times_follow(late_s: float, expected_s: float, *, is_full: bool) -> None:
    pace = Pace()
    pace.usual_s, pace.calls, pace.seconds = 0.1, 1, late_s
    pace.judge(1.0 if late_s > 0.1 else 0.53, is_full=is_full)
    assert pace.usual_s == pytest.approx(expected_s, abs=0.001)


def test_a_slow_neighbour_slows_its_own_calls_only_and_the_limit_stands() -> None:
    limit = Limiter(RANGE)
    quick, hung = limit.pace(), limit.pace()
    quick.usual_s = hung.usual_s = 0.01
    for now in (1.0, 2.0, 3.0):
        for _ in range(400):
            assert limit.enter(Priority.NORMAL)
        for _ in range(250):
            limit.leave_after(quick, 0.01, now)
        for _ in range(150):
            limit.leave_after(hung, 5.0, now)
    assert limit.limit >= RANGE.first


def test_who_is_slow_far_below_the_limit_gets_one_that_is_felt() -> None:
    limit = Limiter(RANGE)
    pace = limit.pace()
    for window, arriving in enumerate((10, *(100,) * 20)):
        let_in = sum(limit.enter(Priority.NORMAL) for _ in range(arriving))
        for _ in range(let_in):
            limit.leave_after(pace, 0.01 * let_in, window * limiter.WINDOW_S)  # one hand does them in turn
    assert 10 < let_in <= 30, "which keep the usual pace, or nearly"


def test_calls_that_tell_nothing_only_leave() -> None:
    limit = Limiter(Range(first=1, least=1, most=1))
    assert limit.enter(Priority.NORMAL)
    assert not limit.enter(Priority.NORMAL)
    assert limit.refused[Priority.NORMAL] == 1
    limit.leave(limit.pace())
    assert limit.in_flight == 0
    assert limit.enter(Priority.NORMAL)


@pytest.mark.parametrize(
    ("priority", "let_in"), [(Priority.CRITICAL, 20), (Priority.NORMAL, 10), (Priority.SHEDDABLE, 7)]
)
def test_the_limit_is_shared_out_by_priority(priority: Priority, let_in: int) -> None:
    limit = Limiter(Range(first=10, least=10, most=10))
    assert sum(limit.enter(priority) for _ in range(30)) == let_in


def test_the_contract_says_what_comes_first() -> None:
    assert priority_of(METHODS["Fire"]) is Priority.NORMAL
    assert priority_of(METHODS["Watch"]) is Priority.NORMAL, "without a policy at all"
    assert priority_of(METHODS["Write"]) is Priority.CRITICAL
    assert priority_of(METHODS["Read"]) is Priority.SHEDDABLE


def test_those_refused_together_are_told_different_waits() -> None:
    told = waits(32, 1.0)
    assert min(told) >= 0.5
    assert max(told) < 1.5
    gaps = [later - earlier for earlier, later in pairwise(sorted(told[:16]))]
    assert max(gaps) < 0.12, "also a few in a row are spread evenly"
