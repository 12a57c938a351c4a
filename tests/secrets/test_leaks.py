"""Known secrets go into a shop by every RPC; then all that came out of it is searched for them."""

from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest
import pytest_asyncio

from services.cli.data_folder import SERVICES
from services.cli.shop import Shop
from tests.secrets import places, story, wrong
from tests.secrets.doors import METHODS, Doors, Said
from tests.secrets.places import HOMES
from tests.secrets.seeds import FIELDS, Known, redacted_fields

IN_THE_SHOP = pytest.mark.asyncio(loop_scope="module")

ASKED = {field.full_name for method in METHODS for field in redacted_fields(method.descriptor.input_type)}
TOLD = {field.full_name for method in METHODS for field in redacted_fields(method.descriptor.output_type)}


@dataclass(repr=False)
class Day:
    """A shop in which secrets have been used and misused."""

    shop: Shop
    known: Known
    said: list[Said]
    accepted: set[str]
    calls: int

    def shows_none(self, *said: Said) -> None:
        """Fails with a line for each kind of secret and each place where it has no business."""
        leaks = {
            f"{kind} in {one.where}"
            for one in said
            for kind in self.known.in_(one.content) - HOMES.get(one.where, set())
        }
        assert not leaks, "\n".join(sorted(leaks))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def day(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Day]:
    talkative = {name: {f"BODEGA_{name}__LOG_LEVEL".upper(): "debug"} for name in SERVICES}
    known = Known()
    async with Shop(tmp_path_factory.mktemp("secrets") / "shop", environment=talkative) as shop:
        said, accepted, calls = [], set(), 0
        for rest in (False, True):
            async with Doors(shop.endpoints, known, rest=rest) as doors:
                admin = await story.lived(doors)
                if rest:
                    calls = await wrong.made(doors, admin.token)
                said += doors.said
                accepted |= doors.accepted
        for name, value in places.given_secrets(shop.folder).items():
            known.given(f"the shop's own {name}", value)
        yield Day(shop, known, said, accepted, calls)


def test_every_redacted_field_of_a_request_has_a_seed() -> None:
    assert set(FIELDS) == ASKED


@IN_THE_SHOP
async def test_every_redacted_field_was_taken_and_given_once(day: Day) -> None:
    """Else what follows has searched for secrets that were nowhere."""
    assert day.accepted == ASKED
    assert day.known.handed_out == TOLD
    assert day.calls > 10 * len(METHODS)


@IN_THE_SHOP
async def test_no_answer_shows_a_secret_but_the_reply_to_whom_it_belongs(day: Day) -> None:
    day.shows_none(*day.said)
    shown = b"".join(said.content for said in day.said)
    assert all(word in shown for word in (b"INVALID_CREDENTIALS", b"MALFORMED_REQUEST", b"EMAIL"))


@IN_THE_SHOP
async def test_no_file_that_others_read_has_a_secret(day: Day) -> None:
    found = list(places.files(day.shop.folder))
    day.shows_none(*found)
    for where, word in {
        "logs/user.log": b'"method":"/bodega.user.v1.SessionService/RefreshSession"',
        "logs/gateway.log": b'"route":"/api/v1/sessions:refresh"',
        "nats/": b"ce-type: bodega.user.v1.UserRegistered",
    }.items():
        assert any(where in said.where and word in said.content for said in found), where


@IN_THE_SHOP
async def test_secrets_stand_only_in_the_tables_that_are_their_home(day: Day) -> None:
    found = list(places.tables(day.shop.folder))
    day.shows_none(*found)
    homes = {said.where: day.known.in_(said.content) for said in found if said.where in HOMES}
    assert homes == HOMES


@IN_THE_SHOP
async def test_metrics_and_health_show_no_secret(day: Day) -> None:
    found = [said async for said in places.operations(day.shop.endpoints, day.shop.gateway_operations)]
    day.shows_none(*found)
    assert b"bodega_build" in found[-2].content


@IN_THE_SHOP
async def test_no_process_was_told_a_secret_where_others_can_read_it(day: Day) -> None:
    found = list(places.processes(day.shop.endpoints))
    day.shows_none(*found)
    assert any(b"services.user" in said.content for said in found)


@IN_THE_SHOP
async def test_following_events_shows_no_secret(day: Day) -> None:
    shown = await places.tail(day.shop.folder, b"UserDeactivated")
    day.shows_none(shown)


@IN_THE_SHOP
async def test_the_audit_trail_shows_no_secret(day: Day) -> None:
    shown = await places.trail(day.shop.folder)
    day.shows_none(shown)
    assert b"ActivateUser" in shown.content


@pytest.mark.parametrize("kind", sorted(set(FIELDS.values())))
def test_the_search_finds_what_it_looks_for(kind: str) -> None:
    known = Known()
    secret = known.new(kind)
    encoded = b64encode(f" {secret}  ".encode()).decode()
    for wrapped in (secret, f'{{"x":"{secret}"}}', f"x={quote(secret)}", f"Basic {encoded}"):
        assert known.in_(wrapped.encode()) == {kind}
    assert Known().in_(secret.encode()) == set()
