"""Known secrets go into a shop by every RPC; then all that came out of it is searched for them.

One test: to start a shop and misuse it costs far more than to search it.
"""

from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import pytest

from services.cli.data_folder import SERVICES
from services.cli.endpoints import Endpoints
from services.cli.shop import Shop
from tests.cheap_passwords import CHEAP_PASSWORDS
from tests.collector import collecting
from tests.secrets import places, story, wrong
from tests.secrets.doors import METHODS, Doors, Said
from tests.secrets.places import HOMES
from tests.secrets.seeds import FIELDS, Known, redacted_fields

ASKED = {field.full_name for method in METHODS for field in redacted_fields(method.descriptor.input_type)}
TOLD = {field.full_name for method in METHODS for field in redacted_fields(method.descriptor.output_type)}

# What has to be found where, or the search was blind there.
SIGNS = (
    ("error of /bodega.user.v1.SessionService/CreateSession UNAUTHENTICATED", b"INVALID_CREDENTIALS"),
    ("answer to POST /api/v1/users: 409", b"EMAIL_TAKEN"),
    ("answer to POST /api/v1/users: 400", b"MALFORMED_REQUEST"),
    ("file logs/user.log", b'"method":"/bodega.user.v1.SessionService/RefreshSession"'),
    ("file logs/gateway.log", b'"route":"/api/v1/sessions:refresh"'),
    ("file logs/gateway.log", b"token refused"),
    ("file logs/user.log", b"token refused"),
    ("file nats/", b"ce-type: bodega.user.v1.UserRegistered"),
    ("user.outbox.type", b"bodega.user.v1.UserRegistered"),
    ("user.remembered_calls.reply_type", b"bodega.user.v1.CreateApiKeyResponse"),
    ("user.audit_trail.method", b"CreateAdministrator"),
    ("metrics of user", b"bodega_build"),
    ("cmdline of user", b"services.user"),
    ("environ of user", b"BODEGA_SECRETS_DIR"),
    ("bodega events tail", b"UserDeactivated"),
    ("bodega audit show", b"SuspendUser"),
    ("exported spans", b"POST /api/v1/sessions:refresh"),
    ("exported spans", b"SessionService/RefreshSession"),
    ("exported spans", b"UPDATE users"),
    ("exported spans", b"INVALID_CREDENTIALS"),
    ("exported spans", b"process bodega.user.v1.user_registered"),
)


def test_every_redacted_field_of_a_request_has_a_seed() -> None:
    assert set(FIELDS) == ASKED


async def test_secrets_leave_a_shop_only_in_the_reply_to_whom_they_belong(tmp_path: Path) -> None:
    known = Known()
    talkative = {name: {f"BODEGA_{name}__LOG_LEVEL".upper(): "debug"} for name in SERVICES}
    talkative["user"] |= CHEAP_PASSWORDS
    with collecting() as collector:
        async with Shop(tmp_path / "shop", environment=talkative, otlp=collector.endpoint) as shop:
            said = await used_and_misused(shop.endpoints, known)
            for name, value in places.given_secrets(shop.folder).items():
                known.given(f"the shop's own {name}", value)
            said += [found async for found in places.everywhere(shop)]
        said += places.exported(collector)
    assert "\n".join(leaks(known, said)) == ""
    at_home = {one.where: known.in_(one.content) for one in said if one.where in HOMES}
    assert at_home == HOMES
    for where, sign in SIGNS:
        assert any(one.where.startswith(where) and sign in one.content for one in said), where


async def used_and_misused(shop: Endpoints, known: Known) -> list[Said]:
    """What was said to those who were refused."""
    said: list[Said] = []
    for rest in (False, True):
        async with Doors(shop, known, rest=rest) as doors:
            admin = await story.lived(doors)
            assert doors.accepted == ASKED
            if rest:
                assert await wrong.made(doors, admin.token) > 10 * len(METHODS)
            said += doors.said
    assert known.handed_out == TOLD
    return said


def leaks(known: Known, said: Iterable[Said]) -> list[str]:
    """A line for each kind of secret and each place where it has no business."""
    found = {
        f"{kind} in {one.where}"
        for one in said
        for kind in known.in_(one.content) - HOMES.get(one.where, set())
    }
    return sorted(found)


@pytest.mark.parametrize("kind", sorted(set(FIELDS.values())))
def test_the_search_finds_what_it_looks_for(kind: str) -> None:
    known = Known()
    secret = known.new(kind)
    encoded = b64encode(f" {secret}  ".encode()).decode()
    for wrapped in (secret, f'{{"x":"{secret}"}}', f"x={quote(secret)}", f"Basic {encoded}"):
        assert leaks(known, [Said("a log", wrapped.encode())]) == [f"{kind} in a log"]
    assert leaks(Known(), [Said("a log", secret.encode())]) == []


def test_secrets_of_others_are_found_too() -> None:
    known = Known()
    known.given("access token", "eyJ0eXAiOiJhdCtqd3QifQ.e30.c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmU")
    assert leaks(known, [Said("a log", b"bad: e30.c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmU.")]) == [
        "access token in a log"
    ]
    assert leaks(known, [Said("a row", b"$argon2id$v=19$m=65536")]) == ["password hash in a row"]
