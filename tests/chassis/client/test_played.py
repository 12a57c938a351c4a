"""What is played on the way out or back is to every layer above what a neighbour did."""

import grpc
import pytest

from services.chassis import failpoints, status
from services.chassis.testing import FakeClock, serving
from tests.chassis import playground
from tests.chassis.client.neighbour import Neighbour
from tests.chassis.playground import FILE, Ping, Stub

pytestmark = pytest.mark.usefixtures("quiet_failpoints")


async def test_calls_out_fail_and_are_tried_again() -> None:
    neighbour = Neighbour(FakeClock())
    handlers = {"Read": neighbour.answer}
    async with serving((playground.add_to_server, handlers), files=[FILE]) as channel:
        failpoints.configure("client.call.before[Read]=error(UNAVAILABLE)*2", production=False)
        assert (await Stub(channel).Read(Ping(name="hi"))).name == "hi"
    assert neighbour.calls == 1


@pytest.mark.parametrize("kind", ["drop-reply", "error(UNAVAILABLE)"])
async def test_a_reply_that_is_lost_was_given(kind: str) -> None:
    neighbour = Neighbour(FakeClock())
    handlers = {"Read": neighbour.answer, "Write": neighbour.answer}
    async with serving((playground.add_to_server, handlers), files=[FILE]) as channel:
        failpoints.configure(f"client.reply.after[Read]={kind}*2", production=False)
        await Stub(channel).Read(Ping(name="hi"))
        assert neighbour.calls == 3
        await Stub(channel).Write(Ping(name="hi"))
    assert neighbour.calls == 4


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [("error(INTERNAL)", "INTERNAL", None), ("hang", "DEADLINE_EXCEEDED", None),
     ("error(RESOURCE_EXHAUSTED)", "RESOURCE_EXHAUSTED", "FAILPOINT_TOO_MUCH")],
)  # fmt: skip
async def test_a_call_out_ends_as_if_the_neighbour_had_ended_it(
    kind: str, code: str, reason: str | None
) -> None:
    neighbour = Neighbour(FakeClock())
    async with serving((playground.add_to_server, {"Fire": neighbour.answer}), files=[FILE]) as channel:
        failpoints.configure(f"client.call.before={kind}", production=False)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await Stub(channel).Fire(Ping(), timeout=0.2)
    assert (raised.value.code().name, status.reason(raised.value)) == (code, reason)
    assert neighbour.calls == 0
