"""Identifiers: sortable when made, repeatable when derived."""

import uuid
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.chassis.testing import FakeClock
from services.kernel.ids import TimeOrderedIds, derived

parts = st.lists(
    st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"])), min_size=1, max_size=4
)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_an_id_is_a_version_7_uuid_of_its_millisecond(at: datetime) -> None:
    made = uuid.UUID(TimeOrderedIds(FakeClock(at)).new())

    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    millis = made.int >> 80
    assert (
        timedelta(milliseconds=millis)
        <= at - datetime(1970, 1, 1, tzinfo=UTC)
        < timedelta(milliseconds=millis + 1)
    )


def test_later_ids_sort_behind_earlier_ones_and_none_comes_twice() -> None:
    clock = FakeClock()
    ids = TimeOrderedIds(clock)
    made = []
    for _ in range(200):
        made.append(ids.new())
        clock.advance(0.001)

    assert made == sorted(made)
    same_moment = [ids.new() for _ in range(1000)]
    assert len(set(same_moment)) == 1000


@given(parts, parts)
def test_derived_ids_are_equal_exactly_for_equal_parts(left: list[str], right: list[str]) -> None:
    assert derived(*left) == derived(*left)
    assert (derived(*left) == derived(*right)) == (left == right)
    assert uuid.UUID(derived(*left)).version == 5


def test_derived_ids_never_change() -> None:
    # Ids that are stored somewhere were made by this very function: it may not change.
    assert derived("order", "reserve") == "61d5288b-c746-562e-86b2-c001717b8040"
