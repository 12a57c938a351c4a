"""Every order is one trace from the edge to the last consumer. (`make soak` places 1,000.)"""

from dataclasses import replace
from pathlib import Path

from tests.collector import Received
from tests.faults.figures import missed
from tests.faults.shows import traced
from tests.faults.shows.traced import EVERYONE, FIRST, LAST


async def test_orders_are_traced_from_the_edge_to_the_last_consumer(tmp_path: Path) -> None:
    assert missed(await traced.shown(tmp_path, orders=50)) == []


def test_the_check_sees_what_is_missing() -> None:
    first = Received("gateway", "i", FIRST, 2, "t", "1", "", 1, 2, {}, (), is_error=False, message="")
    others = [
        replace(first, service=service, name=LAST, span_id=service, parent_id="1")
        for service in sorted(EVERYONE)
    ]
    whole = [first, *others]
    assert traced.is_whole(whole)
    assert not traced.is_whole(others)  # no root, and nobody's children
    assert not traced.is_whole([*whole, replace(first, span_id="2")])  # two roots
    assert not traced.is_whole(whole[:-1])  # somebody is not in it
    assert not traced.is_whole([*whole, replace(first, span_id="3", parent_id="4")])
    assert not traced.is_whole([replace(span, name="process") if span in others else span for span in whole])
