"""Circuits: a table of lives, then any life at all against a plain model."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from services.chassis.policy.circuit import Circuit, Limits, State, Window

LIMITS = Limits(
    consecutive_failures=4, failure_rate=0.5, calls_min=6, bucket_s=1.0, buckets=5, open_s=2.0, probes=2
)
START = 100.0


@dataclass
class Life:
    """A circuit with calls made one after the other."""

    circuit: Circuit
    now: float = START

    def go(self, script: str) -> str:
        """`f` failed, `s` succeeded, `n` neither, `.` half a second passes; `x` in what returns: refused."""
        seen = ""
        for act in script:
            if act == ".":
                self.now += 0.5
                seen += act
                continue
            era = self.circuit.admit(self.now)
            seen += "x" if era is None else act
            if era is not None:
                self.circuit.ended(era, failed={"f": True, "s": False, "n": None}[act], now=self.now)
        return seen


@pytest.mark.parametrize(
    ("script", "seen", "state"),
    [
        ("ssss", "ssss", State.CLOSED),
        ("fff", "fff", State.CLOSED),
        ("ffffs", "ffffx", State.OPEN),  # in a row
        ("fffsffs", "fffsffx", State.OPEN),  # never four in a row, but five of six
        ("ffsfs", "ffsfs", State.CLOSED),  # three of five: too few to tell
        ("ffsfssssf", "ffsfssssf", State.CLOSED),  # four of nine
        ("ffs" + "." * 12 + "sffs", "ffs" + "." * 12 + "sffs", State.CLOSED),  # the first are forgotten
        ("fnnfnnfnn", "fnnfnnfnn", State.CLOSED),  # what says nothing is not counted
        ("ffnff", "ffnff", State.OPEN),  # nor does it interrupt
        ("ffff...s", "ffff...x", State.OPEN),
        ("ffff....s", "ffff....s", State.HALF_OPEN),
        ("ffff....ss", "ffff....ss", State.CLOSED),
        ("ffff....fs", "ffff....fx", State.OPEN),
        ("ffff....sf...s", "ffff....sf...x", State.OPEN),
        ("ffff....nnnnns", "ffff....nnnnns", State.HALF_OPEN),
        ("ffff....ssfff", "ffff....ssfff", State.CLOSED),  # it begins anew
    ],
)
def test_a_circuit_opens_and_closes_as_its_limits_say(script: str, seen: str, state: State) -> None:
    life = Life(Circuit(LIMITS))
    assert life.go(script) == seen
    assert life.circuit.state is state


def test_however_many_wait_only_so_many_probes_are_let_through() -> None:
    life = Life(Circuit(LIMITS))
    life.go("ffff....")
    admitted = [life.circuit.admit(life.now) for _ in range(1000)]
    assert sum(era is not None for era in admitted) == LIMITS.probes


def test_calls_begun_before_it_opened_say_nothing_about_now() -> None:
    life = Life(Circuit(LIMITS))
    early = life.circuit.admit(life.now)
    assert early is not None
    life.go("ffff....s")
    life.circuit.ended(early, failed=True, now=life.now)
    assert life.circuit.state is State.HALF_OPEN
    life.circuit.ended(early, failed=False, now=life.now)
    assert life.circuit.state is State.HALF_OPEN


def test_it_tells_when_to_come_back() -> None:
    life = Life(Circuit(LIMITS))
    assert life.circuit.retry_in_s(life.now) == 0
    life.go("ffff.")
    assert life.circuit.retry_in_s(life.now) == pytest.approx(1.5)
    assert life.circuit.state_at(life.now) is State.OPEN
    life.go("...")
    assert life.circuit.state_at(life.now) is State.HALF_OPEN


@pytest.mark.parametrize(
    ("later_s", "calls"), [(0.0, 4), (0.9, 4), (2.0, 4), (4.0, 4), (5.0, 1), (6.0, 1), (9.0, 1), (1e6, 1)]
)
def test_a_window_forgets_what_is_older_than_itself(later_s: float, calls: int) -> None:
    window = Window(bucket_s=1.0, buckets=5)
    for _ in range(3):
        window.add(failed=True, now=START)
    window.add(failed=False, now=START + later_s)
    assert (window.calls, window.failures) == (calls, 3 if calls == 4 else 0)


class AnyLife(RuleBasedStateMachine):
    """Calls that overlap as they like, and time that passes as it likes."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit(LIMITS)
        self.now = START
        self.opened_at: float | None = None
        self.probing: set[int] = set()
        self.passed = 0
        self.number = 0
        self.eras: dict[int, int] = {}

    @rule(target=calls)
    def begin(self) -> int:
        before = self.circuit.state_at(self.now)
        era = self.circuit.admit(self.now)
        self.number += 1
        if before is State.CLOSED:
            assert era is not None
        elif before is State.OPEN:
            assert era is None
        else:
            assert (era is not None) == (len(self.probing) + self.passed < LIMITS.probes)
            if era is not None:
                self.probing.add(self.number)
        if era is not None:
            self.eras[self.number] = era
        return self.number

    @rule(call=consumes(calls), failed=st.sampled_from([True, True, False, None]))
    def end(self, call: int, failed: bool | None) -> None:  # noqa: FBT001
        era = self.eras.pop(call, None)
        if era is None:
            return  # it was refused
        before = self.circuit.state
        self.circuit.ended(era, failed=failed, now=self.now)
        if call in self.probing:
            self.probing.discard(call)
            if failed:
                assert self.circuit.state is State.OPEN
            elif failed is False:
                self.passed += 1
                assert (self.circuit.state is State.CLOSED) == (self.passed == LIMITS.probes)
        elif before is not State.CLOSED:
            assert self.circuit.state is before
        if self.circuit.state is not before:
            self.probing.clear()
            self.passed = 0
            self.opened_at = self.now if self.circuit.state is State.OPEN else None

    @rule(seconds=st.floats(0.0, 3.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.opened_at is not None)
    @invariant()
    def an_open_circuit_opens_a_crack_when_its_time_is_over_and_no_sooner(self) -> None:
        assert self.opened_at is not None
        if self.circuit.state is State.OPEN:
            is_over = self.now >= self.opened_at + LIMITS.open_s
            assert self.circuit.state_at(self.now) is (State.HALF_OPEN if is_over else State.OPEN)

    @invariant()
    def no_more_probes_are_out_than_allowed(self) -> None:
        assert len(self.probing) + self.passed <= LIMITS.probes


AnyLife.TestCase.settings = settings(max_examples=60, stateful_step_count=60)
test_any_life = AnyLife.TestCase
