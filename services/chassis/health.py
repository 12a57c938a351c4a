"""Is this process alive, has it started, should it get traffic? Answered from checks of what it depends on.

One state, shown three ways: grpc.health.v1 per service, HTTP for kubelets and supervisors, and log lines when
it changes. A check that merely takes too long has failed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from services.chassis import telemetry

_log = telemetry.logger("health")

LOST_WITHIN_S: Final = 2.0
"""What is lost shows within so long, however it is lost; what has returned, sooner."""

CHECK_TIMEOUT_S: Final = 1.0  # shorter than any prober waits
CHECK_EVERY_S: Final = 0.75  # with the longest check still within LOST_WITHIN_S; one costs a read
CHECK_AGAIN_S: Final = 0.2  # while not ready: starting up should not wait for the next round

CheckFn = Callable[[], Awaitable[object]]
"""Returns when the dependency answers; raises, or returns False, when it does not.

What it returns in words is worth telling and keeps nobody from serving: degraded, though it is required."""


class State(Enum):
    STARTING = "starting"
    SERVING = "serving"
    DEGRADED = "degraded"
    """Serving, though something it can do without for a while is missing."""
    NOT_READY = "not_ready"
    DRAINING = "draining"


READY: Final = (State.SERVING, State.DEGRADED)


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found. `problem` is empty when all is well, else a few words without private data."""

    name: str
    required: bool
    problem: str
    duration_ms: float


@dataclass(frozen=True, slots=True)
class _Check:
    name: str
    fn: CheckFn
    required: bool


class Health:
    """The state of one process; `run` keeps it current."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self.state = State.STARTING
        self.started = False
        self.found: tuple[Found, ...] = ()
        self.grpc = _Servicer()
        self._services: Sequence[str] = ()
        self._checks: list[_Check] = []
        self._refreshing: asyncio.Task[State] | None = None

    def check(self, name: str, fn: CheckFn, *, required: bool = True) -> None:
        """Adds a dependency: without a required one the process is not ready, without another degraded."""
        self._checks.append(_Check(name, fn, required))

    def announce(self, services: Sequence[str]) -> None:
        """Names the services whose health is the process's; they are not serving yet."""
        self._services = ("", *services)
        self._publish()

    async def refresh(self) -> State:
        """Runs all checks now and returns the state they lead to; askers at the same time share one run."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name="health-refresh")
        return await asyncio.shield(self._refreshing)

    async def run(self) -> None:
        """Keeps the state current, for ever."""
        while True:
            await self._sleep(CHECK_EVERY_S if self.state in READY else CHECK_AGAIN_S)
            await self.refresh()

    def drain(self) -> None:
        """Announces the end; from here on nothing makes it ready again."""
        self.state = State.DRAINING
        self._publish()

    def report(self) -> dict[str, Any]:
        """What HTTP probes are shown."""
        return {
            "status": self.state.value,
            "checks": {
                found.name: {"ok": not found.problem, "duration_ms": found.duration_ms}
                | ({"problem": found.problem} if found.problem else {})
                | ({} if found.required else {"required": False})
                for found in self.found
            },
        }

    async def _refresh(self) -> State:
        self.found = tuple(await asyncio.gather(*(_run(check) for check in self._checks)))
        if self.state is State.DRAINING:
            return self.state
        before, self.state = self.state, self._judged()
        self.started = self.started or self.state in READY
        if self.state is not before:
            problems = {found.name: found.problem for found in self.found if found.problem}
            _log.info("health changed", state=self.state.value, before=before.value, problems=problems)
            self._publish()
        return self.state

    def _judged(self) -> State:
        if any(found.problem and found.required for found in self.found):
            return State.NOT_READY if self.started else State.STARTING
        return State.DEGRADED if any(found.problem for found in self.found) else State.SERVING

    def _publish(self) -> None:
        serving = self.state in READY
        status = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        self.grpc.tell(dict.fromkeys(self._services, status))


async def _run(check: _Check) -> Found:
    begun = time.perf_counter()
    problem, required = "", check.required
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            told = await check.fn()
            if told is False:
                problem = "not there"
            elif told and isinstance(told, str):
                problem, required = told, False
    except TimeoutError:
        problem = f"no answer within {CHECK_TIMEOUT_S:g} s"
    except Exception as error:  # noqa: BLE001 (whatever a dependency's client raises means that it is not there)
        problem = type(error).__name__
    return Found(check.name, required, problem, round((time.perf_counter() - begun) * 1000, 1))


class _Servicer(health_pb2_grpc.HealthServicer):
    """Tells whoever asks or watches. Names that nobody announced are unknown, and may become known.

    grpc's own tells its watchers under a lock: one that takes no message, having no room for it, would keep
    the state from everybody, and this process from ending.
    """

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._watching: set[asyncio.Task[None]] = set()
        self._is_over = False

    def tell(self, statuses: Mapping[str, int]) -> None:
        """What is true from now on."""
        self.statuses.update(statuses)
        self._changed.set()
        self._changed = asyncio.Event()

    def end_watches(self) -> None:
        """Ends them all, and all that are begun: open ones would hold up every drain for all its grace."""
        self._is_over = True
        for watching in self._watching:
            watching.cancel()

    async def Check(self, request: Any, context: Any) -> HealthCheckResponse:
        status = self.statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> None:
        if self._is_over:
            return
        watching = asyncio.create_task(self._watch(request.service, context), name="health-watch")
        self._watching.add(watching)
        try:
            await asyncio.wait({watching})
        finally:
            self._watching.discard(watching)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, service: str, context: Any) -> None:
        told = None
        while True:
            changed = self._changed  # before looking: what changes meanwhile is looked at again
            status = self.statuses.get(service, HealthCheckResponse.SERVICE_UNKNOWN)
            if status != told:
                await context.write(HealthCheckResponse(status=status))
                told = status
            await changed.wait()
