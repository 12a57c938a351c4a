"""People who keep asking a shop, never twice the same, and note how they were answered."""

import asyncio
import itertools
import statistics
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from services.chassis.context import TRACEPARENT, TraceContext
from tests.faults.figures import Figure
from tests.faults.scene import Json, Scene

ORDER: Final = "order"
DETAILS: Final = "details"
PRODUCT: Final = "product"
LOOK: Final = "look"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request and how it went."""

    kind: str
    began: float
    """Monotonic."""

    took_s: float
    status: int
    """Of HTTP; 0 if there was no answer."""

    answer: Json = field(repr=False)

    @property
    def is_good(self) -> bool:
        """As it should be: no part of it is missing or old."""
        parts = () if self.kind != DETAILS else (_part(self, "buyer"), _part(self, "payment"), *_stock(self))
        return self.is_answered and all(part.get("freshness") == "FRESHNESS_FRESH" for part in parts)

    @property
    def problem(self) -> str:
        """Why there was no answer, e.g. `503 OVERLOADED`."""
        error = self.answer.get("error", {})
        reasons = [detail["reason"] for detail in error.get("details", []) if "reason" in detail]
        return f"{self.status} {reasons[0] if reasons else error.get('status', 'no answer')}"

    @property
    def is_answered(self) -> bool:
        return 200 <= self.status < 300


@dataclass
class Crowd:
    """So many people, who each do all the deeds in turn."""

    scene: Scene
    people: int
    pause_s: float
    visits: list[Visit] = field(default_factory=list)
    _settled: str = ""

    @asynccontextmanager
    async def at_home(self) -> AsyncIterator[None]:
        """There is something to look at, and all is well."""
        self._settled = (await self.scene.buy())["orderId"]
        await self.whole()
        yield

    async def whole(self) -> None:
        """Waits until details are."""

        async def is_good() -> bool:
            return (await self.details()).is_good

        await self.scene.until(is_good, bool)

    @asynccontextmanager
    async def about(self, *kinds: str) -> AsyncIterator[None]:
        """They come, and go when the block is left; what was begun is ended."""
        asking: Mapping[str, Callable[[], Awaitable[Visit]]] = {
            ORDER: self.order,
            DETAILS: self.details,
            PRODUCT: self.product,
            LOOK: self.look,
        }
        is_over = False

        async def keep_on(late_s: float) -> None:
            await asyncio.sleep(late_s)  # not all at once
            for kind in itertools.cycle(kinds):
                if is_over:
                    return
                self.visits.append(await asking[kind]())
                await asyncio.sleep(self.pause_s)

        async with asyncio.TaskGroup() as tasks:
            for number in range(self.people):
                tasks.create_task(keep_on(number * self.pause_s / self.people))
            try:
                yield
            finally:
                is_over = True

    def since(self, began: float, until: float = float("inf"), *, kind: str = "") -> list[Visit]:
        """Visits begun then, of that kind if one is given."""
        return [one for one in self.visits if began <= one.began < until and kind in ("", one.kind)]

    async def order(self, *, timeout_s: float | None = None, trace: TraceContext | None = None) -> Visit:
        """Places one and does not wait for what becomes of it."""
        body = self.scene.order_body(wait=False)
        return await self.ask(ORDER, "POST", "/orders", body, timeout_s=timeout_s, trace=trace)

    async def details(self, *, timeout_s: float | None = None, trace: TraceContext | None = None) -> Visit:
        """Of an order that is settled and paid for: its parts are with four services."""
        return await self.ask(
            DETAILS, "GET", f"/orders/{self._settled}/details", timeout_s=timeout_s, trace=trace
        )

    async def look(self) -> Visit:
        return await self.ask(LOOK, "GET", f"/orders/{self._settled}")

    async def product(self) -> Visit:
        return await self.ask(PRODUCT, "GET", f"/products/{self.scene.product_id}")

    async def ask(
        self,
        kind: str,
        verb: str,
        path: str,
        body: Any = None,
        *,
        timeout_s: float | None = None,
        trace: TraceContext | None = None,
    ) -> Visit:
        """`timeout_s` is what the edge is told, not how long we wait."""
        headers = {"Idempotency-Key": str(uuid.uuid4())} if verb != "GET" else {}
        if timeout_s is not None:
            headers["X-Request-Timeout"] = f"{timeout_s:.3f}"
        if trace is not None:
            headers[TRACEPARENT] = str(trace)
        began = time.monotonic()
        status, answer = 0, {}
        try:
            reply = await self.scene.http.request(
                verb, path, json=body, headers=headers, auth=self.scene.signed_in
            )
            status, answer = reply.status_code, dict(reply.json())
        except httpx.TransportError:
            pass
        return Visit(kind, began, time.monotonic() - began, status, answer)


def _part(details: Visit, name: str) -> Json:
    return dict(details.answer.get(name, {}))


def _stock(details: Visit) -> list[Json]:
    return list(details.answer.get("stock", [{}]))


def bad(visits: Iterable[Visit]) -> Figure:
    """How many were not answered as they should be, which nobody is to be."""
    return _failed("of these failed", (one for one in visits if not one.is_good))


def unanswered(visits: Iterable[Visit]) -> Figure:
    """How many were not answered at all; an old answer is one."""
    return _failed("requests of users without an answer", (one for one in visits if not one.is_answered))


def told(what: str, visits: Iterable[Visit]) -> Figure:
    """How many there were, and how many of them had which problem."""
    seen = list(visits)
    problems = _problems(one for one in seen if not one.is_answered)
    return Figure(f"{what} ({problems})" if problems else what, len(seen))


def _failed(what: str, visits: Iterable[Visit]) -> Figure:
    seen = list(visits)
    return Figure(f"{what} ({_problems(seen)})" if seen else what, len(seen), at_most=0)


def _problems(visits: Iterable[Visit]) -> str:
    problems = Counter(one.problem for one in visits)
    return ", ".join(f"{count} {problem}" for problem, count in problems.most_common())


def percentile(values: Iterable[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    assert ordered, "there is nothing to look at"
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def peak_per_s(times: Iterable[float]) -> int:
    """The most within any one second."""
    ordered = sorted(times)
    first, most = 0, 0
    for last, at in enumerate(ordered):
        while ordered[first] <= at - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most
