import pickle
from datetime import UTC, datetime, timedelta

import pytest

from services.user.lockout import FORGOTTEN_AFTER, OF_ACCOUNT, OF_ADDRESS, Failures, Limit, SignInLocked

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMIT = Limit(free=2, first=timedelta(seconds=30), longest=timedelta(minutes=3))


def failed(times: int, *, at: datetime = AT) -> Failures:
    failures = Failures(b"ada", LIMIT)
    for _ in range(times):
        failures = failures.failed(at)
    return failures


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(0, 0), (2, 0), (3, 30), (4, 60), (5, 120), (6, 180), (7, 180), (10_000, 180)]
)
def test_the_wait_doubles_after_the_free_failures_up_to_the_longest(failures: int, wait_s: int) -> None:
    assert LIMIT.wait(failures) == timedelta(seconds=wait_s)


def test_the_first_failures_lock_nobody_out() -> None:
    failed(2).check(AT)


def test_while_it_is_locked_nobody_may_try_and_is_told_for_how_long() -> None:
    locked = failed(3)
    with pytest.raises(SignInLocked) as refused:
        locked.check(AT + timedelta(seconds=0.5))
    assert refused.value.retry_after_s == 30  # rounded up: who comes back then may try
    with pytest.raises(SignInLocked):
        locked.check(AT + timedelta(seconds=29.999))
    locked.check(AT + timedelta(seconds=30))


def test_failures_are_forgotten_after_a_calm_day() -> None:
    assert failed(9).failed(AT + FORGOTTEN_AFTER).count == 1
    assert failed(9).failed(AT + FORGOTTEN_AFTER - timedelta(seconds=1)).count == 10


def test_an_account_can_be_tried_a_hundred_times_a_day_at_most() -> None:
    now, failures = AT, Failures(b"ada", OF_ACCOUNT)
    while now < AT + timedelta(hours=24):
        failures = failures.failed(now)
        now += OF_ACCOUNT.wait(failures.count) or timedelta(seconds=1)
    assert failures.count < 110


def test_an_office_that_mistypes_now_and_then_is_never_locked_out() -> None:
    now, failures = AT, Failures(b"office", OF_ADDRESS)
    for _ in range(1000):
        failures = failures.failed(now)
        failures.check(now)
        now += OF_ADDRESS.forgives


@pytest.mark.parametrize("pause_s", [0, 1, 60, 600])
def test_a_place_can_try_some_hundred_times_a_day_at_most(pause_s: int) -> None:
    now, failures, tried = AT, Failures(b"office", OF_ADDRESS), 0
    while now < AT + timedelta(hours=24):
        failures, tried = failures.failed(now), tried + 1
        now += max(OF_ADDRESS.wait(failures.count), timedelta(seconds=pause_s))
    assert tried < 140


def test_the_refusal_survives_a_pickle() -> None:
    assert pickle.loads(pickle.dumps(SignInLocked(retry_after_s=7))).retry_after_s == 7  # noqa: S301
