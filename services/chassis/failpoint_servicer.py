"""What is played in this program, for its operator to see and to say: `bodega failpoints`.

Nothing of it touches the database or visits a failpoint, so that what holds up all else can be cleared.
Hence it is told in the log, and not in the audit trail, which is written in the transaction of an effect.
"""

from typing import Any

from bodega.operator.v1 import failpoint_pb2 as pb
from bodega.operator.v1 import failpoint_pb2_grpc

from services.chassis import context, failpoints, telemetry
from services.chassis.fault import FailpointsRefused
from services.kernel import errors

_log = telemetry.logger("failpoints")


class BadFailpoints(errors.Invalid):
    """{problem}"""

    field = "failpoints"


class NoFailpointsInProduction(errors.WrongState):
    """Here are real customers; faults are played elsewhere."""


class FailpointServicer(failpoint_pb2_grpc.FailpointServiceServicer):
    """Serves in production too, to say no: who hears UNIMPLEMENTED looks for the wrong mistake."""

    def __init__(self, *, production: bool) -> None:
        self._production = production

    async def GetFailpoints(self, _request: pb.GetFailpointsRequest, _context: Any) -> pb.Failpoints:
        return self._standing()

    async def SetFailpoints(self, request: pb.SetFailpointsRequest, _context: Any) -> pb.Failpoints:
        return self._configured(request.failpoints)

    async def ClearFailpoints(self, _request: pb.ClearFailpointsRequest, _context: Any) -> pb.Failpoints:
        return self._configured("")

    def _configured(self, text: str) -> pb.Failpoints:
        self._must_be_play()
        try:
            failpoints.configure(text, production=self._production)
        except FailpointsRefused as refused:
            raise BadFailpoints(problem=refused) from None
        request = context.current()
        _log.warning("failpoints set", failpoints=text or "none", by=request.caller.name if request else "")
        return self._standing()

    def _standing(self) -> pb.Failpoints:
        self._must_be_play()
        return pb.Failpoints(
            failpoints=[
                pb.Failpoint(place=str(it.place), fault=str(it.fault), visits=it.visits, plays=it.plays)
                for it in failpoints.standing()
            ],
            sites=sorted(failpoints.sites()),
        )

    def _must_be_play(self) -> None:
        if self._production:
            raise NoFailpointsInProduction
