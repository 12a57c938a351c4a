"""Which key signs when: every boundary, and every token good wherever it is shown."""

from datetime import UTC, datetime, timedelta

import pytest

from services.user import key_schedule
from services.user.key_schedule import SKEW_MAX, TOKEN_LIFE, Schedule, SigningKey, retires_at

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
INSTANT = timedelta(microseconds=1)
SCHEDULE = Schedule(period=DAY, lead=HOUR)


def key(number: int, signs_from: datetime, *, sealed_with: str = "a") -> SigningKey:
    return SigningKey(f"k{number}", b"public", b"sealed", sealed_with, number, signs_from, signs_from)


def due(keys: list[SigningKey], at: datetime) -> datetime | None:
    return SCHEDULE.due(keys, at, sealed_with="a")


def signing(keys: list[SigningKey], at: datetime, *, sealed_with: str = "a") -> str | None:
    found = key_schedule.signing(keys, at, sealed_with=sealed_with)
    return found.id if found else None


def test_the_very_first_key_signs_at_once() -> None:
    assert due([], AT) == AT


def test_a_successor_is_due_in_time_to_be_published_before_it_signs() -> None:
    keys = [key(1, AT)]
    assert due(keys, AT + DAY - HOUR - INSTANT) is None
    assert due(keys, AT + DAY - HOUR) == AT + DAY
    assert due([*keys, key(2, AT + DAY)], AT + DAY - HOUR) is None


def test_a_late_successor_is_published_as_long_before_it_signs_as_any() -> None:
    late = AT + 3 * DAY
    assert due([key(1, AT)], late) == late + HOUR


def test_the_key_of_before_signs_until_its_successor_does() -> None:
    keys = [key(1, AT), key(2, AT + DAY)]
    assert signing(keys, AT - INSTANT) is None
    assert signing(keys, AT) == "k1"
    assert signing(keys, AT + DAY - INSTANT) == "k1"
    assert signing(keys, AT + DAY) == "k2"


def test_a_key_of_another_secret_does_not_sign_and_does_not_count() -> None:
    keys = [key(1, AT, sealed_with="old")]
    assert signing(keys, AT) is None
    assert due(keys, AT) == AT
    keys.append(key(2, AT))
    assert signing(keys, AT) == "k2"
    assert signing(keys, AT, sealed_with="old") == "k1"  # a replica that does not know of it yet
    assert due(keys, AT) is None


@pytest.mark.parametrize("behind", [timedelta(0), SKEW_MAX])
def test_every_token_is_good_until_it_expires_by_anyones_clock(behind: timedelta) -> None:
    """Signed by a replica whose clock is behind, at the last instant before it changes to the next key."""
    changed_at = AT + DAY
    old = SigningKey("k1", b"", b"", "a", 1, AT, AT, retires_at=retires_at(changed_at))
    keys = [old, key(2, changed_at)]
    signed_at = changed_at - INSTANT
    assert signing(keys, signed_at) == "k1"
    expires_at = signed_at + behind + TOKEN_LIFE
    assert [found.id for found in key_schedule.published(keys, expires_at)] == ["k2", "k1"]


def test_what_is_retired_is_not_published() -> None:
    old = SigningKey("k1", b"", b"", "a", 1, AT, AT, retires_at=AT + DAY)
    assert key_schedule.published([old, key(2, AT)], AT + DAY) == [key(2, AT)]


def test_the_private_half_is_not_shown_even_sealed() -> None:
    assert "sealed'" not in repr(key(1, AT))
