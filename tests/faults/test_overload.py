"""A server that is asked for three times its capacity."""

from tests.faults.figures import missed
from tests.faults.shows import overload
from tests.faults.shows.overload import calling, workshop


async def test_a_server_asked_for_three_times_its_capacity_does_as_much_as_ever() -> None:
    async with workshop() as (address, _), calling(address) as callers:
        figures = await overload.storm(callers, 4.0)
    assert not missed(figures)


async def test_a_refusal_is_cheap() -> None:
    async with workshop() as (address, process), calling(address) as callers:
        cost = await overload.refusal(callers, process.pid)
    assert cost.measured < 1, "the bound itself is for a machine that does nothing else: see `make soak`"
