"""A client of the REST edge, for `bodega demo` and for tests: it sends what a browser would send."""

import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import httpx

from services.cli.signed_in import ANSWER_MAX_S, SignedIn
from services.cli.surprise import Surprise

Json = dict[str, Any]

ASK_EVERY_S: Final = 0.1


def new_id() -> str:
    """For Idempotency-Key, and to make names that nobody else has."""
    return str(uuid.uuid4())


class Edge:
    """A connection; what it returns is the JSON it got."""

    def __init__(self, gateway: str, *, by: SignedIn | None = None) -> None:
        """`by` is who asks, where nobody else is named."""
        self.gateway = gateway
        self.http = httpx.Client(base_url=gateway, timeout=ANSWER_MAX_S, auth=by)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        key: str | None = None,
        by: SignedIn | None = None,
    ) -> Json:
        """The answer to a request that should succeed. Raises Surprise if it does not."""
        headers = {"Idempotency-Key": key or new_id()} if method != "GET" else {}
        auth = httpx.USE_CLIENT_DEFAULT if by is None else by
        try:
            reply = self.http.request(method, path, json=body, headers=headers, auth=auth)
        except httpx.HTTPError as error:
            raise Surprise(f"{method} {path}: no answer ({type(error).__name__})") from None
        if reply.is_error:
            raise Surprise(f"{method} {path}: {reply.status_code} {reply.text[:300]}")
        found: Json = reply.json() if reply.content else {}
        return found

    def register(self, display_name: str, password: str | None = None) -> tuple[Json, SignedIn]:
        """A new account, not yet active, and its owner, who can sign in once it is."""
        name = f"{display_name.lower()}-{new_id()[:13]}"
        email, password = f"{name}@example.com", password or new_id()
        account = {
            "email": email,
            "username": name,
            "password": password,
            "profile": {"displayName": display_name},
        }
        user = self.ask("POST", "/api/v1/users", body=account)
        return user, SignedIn(email, password)

    def eventually(
        self, ask: Callable[[], Any], enough: Callable[[Any], bool], what: str, within_s: float
    ) -> Any:
        """Asks until the answer is enough. Raises Surprise if it is not in time."""
        give_up = time.monotonic() + within_s
        while not enough(answer := ask()):
            if time.monotonic() > give_up:
                raise Surprise(f"not within {within_s:g} s: {what}")
            time.sleep(ASK_EVERY_S)
        return answer
