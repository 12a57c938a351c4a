"""Page tokens: good for one search and one day, and nobody else can make one."""

import base64

import pytest
from bodega.order.v1 import order_pb2

from services.chassis.paging import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, Cursor, InvalidPageToken, Pages
from services.chassis.testing import FakeClock

USER = "0190aaaa-0000-7000-8000-000000000001"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def pages(clock: FakeClock) -> Pages:
    return Pages(b"secret", clock=clock)


def request(**fields: object) -> order_pb2.ListOrdersRequest:
    return order_pb2.ListOrdersRequest(**fields)  # type: ignore[arg-type]


def key(row: int) -> Cursor:
    return [row, f"id-{row}"]


def token_of(pages: Pages, **fields: object) -> str:
    _, token = pages.cut(request(page_size=2, **fields), [1, 2, 3], key)
    assert token
    return token


def test_a_token_begins_where_the_page_before_ended(pages: Pages) -> None:
    token = token_of(pages, user_id=USER)
    assert pages.begin(request(user_id=USER, page_token=token)) == [2, "id-2"]


def test_a_token_of_any_length_can_be_read_again(pages: Pages) -> None:
    for length in range(8):
        cursor: Cursor = ["x" * length]
        _, token = pages.cut(request(page_size=1), [cursor, cursor], list)
        assert pages.begin(request(page_token=token)) == cursor


def test_the_last_page_has_no_token(pages: Pages) -> None:
    assert pages.cut(request(page_size=2), [1, 2], key) == ([1, 2], "")
    assert pages.begin(request()) is None


def test_the_next_page_may_have_another_size(pages: Pages) -> None:
    token = token_of(pages)
    assert pages.begin(request(page_size=7, page_token=token)) == [2, "id-2"]


@pytest.mark.parametrize(
    ("asked", "given"),
    [(0, PAGE_SIZE_DEFAULT), (1, 1), (PAGE_SIZE_MAX, PAGE_SIZE_MAX), (10**6, PAGE_SIZE_MAX)],
)
def test_sizes_are_bounded(pages: Pages, asked: int, given: int) -> None:
    assert pages.size(request(page_size=asked)) == given


def test_a_token_of_another_search_is_refused(pages: Pages) -> None:
    token = token_of(pages, user_id=USER)
    with pytest.raises(InvalidPageToken):
        pages.begin(request(page_token=token))
    with pytest.raises(InvalidPageToken):
        pages.begin(order_pb2.ListStuckOrdersRequest(page_token=token))


def test_a_token_is_good_for_a_day(pages: Pages, clock: FakeClock) -> None:
    token = token_of(pages)
    clock.advance(24 * 3600)
    assert pages.begin(request(page_token=token)) == [2, "id-2"]
    clock.advance(1)
    with pytest.raises(InvalidPageToken):
        pages.begin(request(page_token=token))


@pytest.mark.parametrize(
    "text", ["x", "!!", "AAAA", "a" * 1024, base64.urlsafe_b64encode(b"[]" * 20).decode(), "é"]
)
def test_a_made_up_token_is_refused(pages: Pages, text: str) -> None:
    with pytest.raises(InvalidPageToken):
        pages.begin(request(page_token=text))


def test_a_token_that_was_changed_is_refused(pages: Pages) -> None:
    token = token_of(pages)
    for position in range(0, len(token), 5):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        with pytest.raises(InvalidPageToken):
            pages.begin(request(page_token=changed))


def test_a_token_of_another_service_is_refused(pages: Pages, clock: FakeClock) -> None:
    with pytest.raises(InvalidPageToken):
        Pages(b"other", clock=clock).begin(request(page_token=token_of(pages)))
