"""Time as databases keep it."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from services.kernel.clock import SystemClock, from_micros, to_micros

moments = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))


@given(moments)
def test_a_moment_survives_the_database(at: datetime) -> None:
    assert from_micros(to_micros(at)) == at


@given(moments, moments)
def test_order_is_kept(left: datetime, right: datetime) -> None:
    assert (to_micros(left) < to_micros(right)) == (left < right)


def test_the_machine_s_clock_is_in_utc_and_goes_forward() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()
