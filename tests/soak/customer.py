"""A patient client of the REST edge: what is "not now" is asked again, with the same Idempotency-Key."""

import asyncio
import time
import uuid
from collections import Counter
from random import Random
from typing import Any, Final

import httpx

from services.cli.signed_in import SignedIn

Json = dict[str, Any]

PATIENCE_S: Final = 120.0  # a program that was killed is back within seconds; a laptop may be busy
ANSWER_MAX_S: Final = 15.0  # longer than any deadline in the contracts
AGAIN_MAX_S: Final = 1.0

NOT_NOW: Final = frozenset({"ABORTED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})
NO: Final = frozenset({"FAILED_PRECONDITION", "NOT_FOUND", "ALREADY_EXISTS", "INVALID_ARGUMENT"})


class Refusal(Exception):
    """The shop said no and will not say anything else; the message is its reason, e.g. `OUT_OF_STOCK`."""


class Complaint(Exception):
    """The shop did what it must never do: answered with a bug, or not at all for too long."""


class Customer:
    """Asks the shop things. One for all shoppers: it counts, and keeps connections."""

    def __init__(self, gateway: str, *, patience_s: float = PATIENCE_S) -> None:
        self.http = httpx.AsyncClient(base_url=f"{gateway}/api/v1", timeout=ANSWER_MAX_S)
        self.answers: Counter[str] = Counter()
        """How often the shop said what, tries included: `200`, `409 ABORTED`, `ReadError`."""

        self._patience_s = patience_s
        self._random = Random()  # noqa: S311 (spreads retries; nothing to guess)

    async def close(self) -> None:
        await self.http.aclose()

    async def ask(
        self,
        verb: str,
        path: str,
        body: Json | None = None,
        *,
        key: str = "",
        by: SignedIn | None = None,
    ) -> Json:
        """The answer to someone, or to nobody in particular. Raises Refusal or Complaint."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())} if verb != "GET" else {}
        give_up = time.monotonic() + self._patience_s
        while True:
            answer, problem = await self._once(verb, path, body, headers, by)
            if answer is not None:
                return answer
            if time.monotonic() > give_up:
                raise Complaint(f"{verb} {path}: no answer in {self._patience_s:g} s, last {problem}")
            await asyncio.sleep(self._random.uniform(0, AGAIN_MAX_S))

    async def _once(
        self, verb: str, path: str, body: Json | None, headers: dict[str, str], by: SignedIn | None
    ) -> tuple[Json | None, str]:
        try:
            reply = await self.http.request(verb, path, json=body, headers=headers, auth=by)
        except httpx.TransportError as error:
            self.answers[type(error).__name__] += 1
            return None, repr(error)
        if reply.is_success:
            self.answers[str(reply.status_code)] += 1
            return (reply.json() if reply.content else {}), ""
        code, reason = _refusal(reply)
        self.answers[f"{reply.status_code} {code}"] += 1
        if code in NO:
            raise Refusal(reason)
        if code not in NOT_NOW:
            raise Complaint(f"{verb} {path}: {reply.status_code} {reply.text[:300]}")
        return None, f"{reply.status_code} {reason}"


def _refusal(reply: httpx.Response) -> tuple[str, str]:
    """Code and reason, from the body that every error has."""
    try:
        error = reply.json()["error"]
        reasons = [detail["reason"] for detail in error["details"] if "reason" in detail]
        return error["status"], reasons[0] if reasons else error["status"]
    except (ValueError, KeyError, TypeError):
        return "", ""
