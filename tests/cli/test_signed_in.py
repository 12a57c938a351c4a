"""How a client of the edge stays signed in."""

import asyncio
import json

import httpx
import pytest

from services.cli.signed_in import SignedIn
from services.cli.surprise import Surprise

EDGE = "http://shop.example"


class Sessions:
    """An edge: it gives out numbered tokens that are good for so long, and refreshes by key."""

    def __init__(self, *, good_for_s: int) -> None:
        self.good_for_s = good_for_s
        self.renewals: list[tuple[str, str]] = []
        """Each renewal's path and key."""

        self.refused: dict[str, int] = {}
        """By path: with which status."""

        self.seen: list[str] = []
        self._refreshed: dict[str, int] = {}
        self._given = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if not path.startswith("/api/v1/sessions"):
            self.seen.append(request.headers["authorization"])
            return httpx.Response(200, json={})
        key = request.headers.get("idempotency-key", "")
        self.renewals.append((path.removeprefix("/api/v1/"), key))
        if path in self.refused:
            return httpx.Response(self.refused[path], text="not today")
        number = self._refreshed.get(key) or self._next()
        if key:
            assert json.loads(request.content)["refreshToken"]
            self._refreshed[key] = number
        tokens = {"accessToken": f"a{number}", "refreshToken": f"r{number}"}
        return httpx.Response(200, json={**tokens, "expiresIn": f"{self.good_for_s}s"})

    def _next(self) -> int:
        self._given += 1
        return self._given

    def client(self) -> httpx.Client:
        auth = SignedIn("ada@example.com", "correct horse")
        return httpx.Client(base_url=EDGE, transport=httpx.MockTransport(self), auth=auth)


def test_who_signs_in_once_shows_the_token_with_every_request() -> None:
    shop = Sessions(good_for_s=900)
    with shop.client() as client:
        assert [client.get("/orders").status_code for _ in range(3)] == [200] * 3
    assert shop.renewals == [("sessions", "")]
    assert shop.seen == ["Bearer a1"] * 3


def test_a_token_about_to_end_is_renewed_before_it_does() -> None:
    shop = Sessions(good_for_s=61)
    with shop.client() as client:
        client.get("/orders")
        shop.good_for_s = 900
        client.auth._renew_at = 0.0  # type: ignore[union-attr]  # a second later
        client.get("/orders")
    assert [path for path, _ in shop.renewals] == ["sessions", "sessions:refresh"]
    assert shop.seen == ["Bearer a1", "Bearer a2"]


async def test_two_who_renew_at_once_are_not_taken_for_thieves() -> None:
    shop = Sessions(good_for_s=900)
    auth = SignedIn("ada@example.com", "correct horse")
    async with httpx.AsyncClient(base_url=EDGE, transport=httpx.MockTransport(shop), auth=auth) as client:
        await client.get("/orders")
        auth._renew_at = 0.0
        await asyncio.gather(*(client.get("/orders") for _ in range(3)))
    keys = {key for path, key in shop.renewals if path == "sessions:refresh"}
    assert len(keys) == 1
    assert shop.seen[1:] == ["Bearer a2"] * 3


def test_a_session_that_has_ended_is_begun_anew() -> None:
    shop = Sessions(good_for_s=900)
    shop.refused["/api/v1/sessions:refresh"] = 401
    with shop.client() as client:
        client.get("/orders")
        client.auth._renew_at = 0.0  # type: ignore[union-attr]
        assert client.get("/orders").status_code == 200
    assert [path for path, _ in shop.renewals] == ["sessions", "sessions:refresh", "sessions"]


@pytest.mark.parametrize("status", [401, 503])
def test_why_nobody_can_sign_in_is_the_answer(status: int) -> None:
    shop = Sessions(good_for_s=900)
    shop.refused["/api/v1/sessions"] = status
    with shop.client() as client:
        reply = client.get("/orders")
    assert (reply.status_code, reply.text, shop.seen) == (status, "not today", [])


def test_a_shop_that_does_not_answer_lets_nobody_in() -> None:
    with pytest.raises(Surprise, match="signing in: no answer"):
        SignedIn("ada@example.com", "correct horse").bearer("http://127.0.0.1:1")
