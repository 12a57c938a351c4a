"""Someone signed in at the REST edge, as browsers are: each request with a token, renewed in time."""

import time
import uuid
from collections.abc import AsyncGenerator, Generator
from typing import Any, Final

import httpx

from services.cli.surprise import Surprise

ANSWER_MAX_S: Final = 15.0  # longer than any deadline in the contracts
RENEWED_BEFORE_S: Final = 60.0  # a token that is about to end might end under way

SESSIONS: Final = "/api/v1/sessions"

Json = dict[str, Any]


class SignedIn(httpx.Auth):
    """For `auth=` of any httpx client or request; signs in at the first.

    If that fails, its answer is the answer to the request: whoever is patient asks again.
    """

    def __init__(self, email: str, password: str) -> None:
        self._credentials = {"email": email, "password": password}
        self._access_token = ""
        self._refresh_token = ""
        self._renew_at = 0.0

    def bearer(self, gateway: str) -> str:
        """What goes with calls of other kinds, as `authorization`. Raises Surprise without one."""
        with httpx.Client(timeout=ANSWER_MAX_S) as client:
            while renewal := self._renewal(httpx.URL(gateway)):
                try:
                    answer = client.send(renewal)
                except httpx.HTTPError as error:
                    raise Surprise(f"signing in: no answer ({type(error).__name__})") from None
                if not self._took(answer):
                    raise Surprise(f"signing in: {answer.status_code} {answer.text[:300]}")
        return f"Bearer {self._access_token}"

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        while renewal := self._renewal(request.url):
            answer = yield renewal
            answer.read()
            if not self._took(answer):
                return
        yield self._signed(request)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        while renewal := self._renewal(request.url):
            answer = yield renewal
            await answer.aread()
            if not self._took(answer):
                return
        yield self._signed(request)

    def _renewal(self, edge: httpx.URL) -> httpx.Request | None:
        """The request that gets a fresh token; None while there is one."""
        if time.monotonic() < self._renew_at:
            return None
        if not self._refresh_token:
            return httpx.Request("POST", edge.join(SESSIONS), json=self._credentials)
        # One key a token: two requests that renew at the same time get the same answer. With another key the
        # second would look like a thief's, and end the session.
        key = uuid.uuid5(uuid.NAMESPACE_URL, self._refresh_token)
        return httpx.Request(
            "POST",
            edge.join(f"{SESSIONS}:refresh"),
            json={"refreshToken": self._refresh_token},
            headers={"Idempotency-Key": str(key)},
        )

    def _took(self, answer: httpx.Response) -> bool:
        """Whether the way is on; a session that has ended is begun anew."""
        if answer.is_error:
            has_ended = answer.status_code == httpx.codes.UNAUTHORIZED and bool(self._refresh_token)
            self._refresh_token = "" if has_ended else self._refresh_token
            return has_ended
        tokens: Json = answer.json()
        self._access_token, self._refresh_token = tokens["accessToken"], tokens["refreshToken"]
        self._renew_at = time.monotonic() + float(tokens["expiresIn"].rstrip("s")) - RENEWED_BEFORE_S
        return True

    def _signed(self, request: httpx.Request) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {self._access_token}"
        return request
