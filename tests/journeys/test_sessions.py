"""Signing in over REST as people do, and as those do who should not get in."""

from typing import Any

import httpx
import jwt

from services.cli.edge import new_id
from services.cli.shopper import Shopper

NOBODY = httpx.Auth()  # leaves requests as they are


def post(shopper: Shopper, path: str, body: Any, *, token: str = "", key: str = "") -> httpx.Response:
    headers = {"Idempotency-Key": key or new_id()} | ({"Authorization": f"Bearer {token}"} if token else {})
    return shopper.http.post(path, json=body, headers=headers, auth=NOBODY)


def sign_in(shopper: Shopper, email: str, password: str) -> httpx.Response:
    body = {"email": email, "password": password}
    return shopper.http.post("/api/v1/sessions", json=body, auth=NOBODY)


def refresh(shopper: Shopper, token: str, key: str = "") -> httpx.Response:
    return post(shopper, "/api/v1/sessions:refresh", {"refreshToken": token}, key=key)


def reason(reply: httpx.Response) -> str:
    details = reply.json()["error"]["details"]
    return next(str(detail["reason"]) for detail in details if "reason" in detail)


def test_a_buyer_signs_in_and_anyone_can_tell_by_the_published_keys(shopper: Shopper) -> None:
    password = new_id()
    buyer = shopper.buyer(password=password)
    reply = sign_in(shopper, buyer["email"].upper(), password)
    assert reply.status_code == 200, reply.text
    assert reply.headers["cache-control"] == "no-store"  # as RFC 6749 asks of tokens
    tokens = reply.json()
    assert (tokens["expiresIn"], tokens["session"]["userId"]) == ("900s", buyer["userId"])

    published = shopper.http.get("/.well-known/jwks.json")
    assert published.headers["content-type"] == "application/jwk-set+json"
    keys = jwt.PyJWKSet.from_dict(published.json())
    token = tokens["accessToken"]
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key.key, algorithms=["EdDSA"], audience="bodega", issuer="bodega")
    assert (claims["sub"], claims["roles"]) == (buyer["userId"], ["customer"])


def test_a_session_goes_on_by_refreshing_and_ends_when_a_token_comes_back(shopper: Shopper) -> None:
    password = new_id()
    buyer = shopper.buyer(password=password)
    first = sign_in(shopper, buyer["email"], password).json()["refreshToken"]
    key = new_id()
    second = refresh(shopper, first, key)
    assert second.status_code == 200, second.text
    assert refresh(shopper, first, key).json() == second.json()  # the reply was lost, and comes again
    stolen = refresh(shopper, first)
    assert (stolen.status_code, reason(stolen)) == (401, "INVALID_REFRESH_TOKEN")
    owners = refresh(shopper, second.json()["refreshToken"])
    assert (owners.status_code, reason(owners)) == (401, "INVALID_REFRESH_TOKEN")


def test_a_buyer_sees_where_they_are_signed_in_and_signs_out(shopper: Shopper) -> None:
    password = new_id()
    buyer = shopper.buyer(password=password)
    here, there = (sign_in(shopper, buyer["email"], password).json() for _ in range(2))
    bearer = {"Authorization": f"Bearer {here['accessToken']}"}
    path = f"/api/v1/users/{buyer['userId']}/sessions"

    def signed_in() -> list[str]:
        sessions = shopper.http.get(path, headers=bearer, auth=NOBODY).json().get("sessions", [])
        return [session["sessionId"] for session in sessions]

    ids = [tokens["session"]["sessionId"] for tokens in (there, here)]
    assert signed_in() == ids
    headers = bearer | {"Idempotency-Key": new_id()}
    assert shopper.http.delete(f"{path}/{ids[0]}", headers=headers, auth=NOBODY).status_code == 204
    assert signed_in() == ids[1:]
    out = post(shopper, "/api/v1/sessions:revoke", {"refreshToken": here["refreshToken"]})
    assert out.status_code == 204
    assert signed_in() == []


def test_a_new_password_ends_the_other_sessions(shopper: Shopper) -> None:
    old, new = new_id(), new_id()
    buyer = shopper.buyer(password=old)
    other, here = (sign_in(shopper, buyer["email"], old).json() for _ in range(2))
    path = f"/api/v1/users/{buyer['userId']}:changePassword"
    change = {"currentPassword": old, "newPassword": new}
    wrong = post(shopper, path, change | {"currentPassword": "wrong"}, token=here["accessToken"])
    assert (wrong.status_code, reason(wrong)) == (400, "WRONG_PASSWORD")
    changed = post(shopper, path, change, token=here["accessToken"])
    assert changed.status_code == 204, changed.text
    assert refresh(shopper, other["refreshToken"]).status_code == 401
    assert sign_in(shopper, buyer["email"], old).status_code == 401
    assert sign_in(shopper, buyer["email"], new).status_code == 200


def test_who_guesses_has_to_wait_whether_there_is_such_an_account_or_not(shopper: Shopper) -> None:
    password = new_id()
    for email in (shopper.buyer(password=password)["email"], f"nobody-{new_id()}@example.com"):
        for _ in range(5):
            guess = sign_in(shopper, email, "a guess")
            assert (guess.status_code, reason(guess)) == (401, "INVALID_CREDENTIALS")
        locked = sign_in(shopper, email, password)
        assert (locked.status_code, reason(locked)) == (429, "SIGN_IN_LOCKED")
        assert 0 < int(locked.headers["retry-after"]) <= 30
