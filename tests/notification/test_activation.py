"""A welcome carries the link that activates the account, and nothing else does."""

from email.message import EmailMessage
from urllib.parse import parse_qs, urlsplit

import pytest
from bodega.user.v1 import user_pb2

from services.chassis.telemetry import captured
from services.kernel import errors
from services.kernel.clock import SystemClock
from services.notification.domain import Channel, Fact, Message, Notification
from tests.databases import kept
from tests.notification.post import ADA, Scene, letter_to

PAGE = "https://shop.example/activate"
INACTIVE = user_pb2.User.STATE_INACTIVE
LINK = f"{PAGE}#user_id={ADA}&token=token-of-n1"


def welcome(number: int = 1) -> Notification:
    message = Message(ADA, "Welcome", "Your account is registered and waits to be activated.")
    fact = Fact(f"e{number}", "bodega.user.v1.UserRegistered")
    return Notification.write(f"n{number}", message, fact, channel=Channel.EMAIL, at=SystemClock().now())


@pytest.fixture
def scene(scene: Scene) -> Scene:
    scene.activation_page = PAGE
    scene.users.add(ADA, state=INACTIVE)
    return scene


async def sent(scene: Scene, *messages: Notification) -> list[tuple[str, str]]:
    """What each letter says, as text and as HTML."""
    await scene.add(*messages)
    async with scene.mailing(scene.post.port):
        await scene.settled(len(messages))
    return [said(mail) for mail in scene.post.read()]


def said(mail: EmailMessage) -> tuple[str, str]:
    plain, html = mail.iter_parts()
    assert isinstance(plain, EmailMessage)
    assert isinstance(html, EmailMessage)
    return plain.get_content(), html.get_content()


async def test_a_welcome_has_the_link_to_read_and_to_follow(scene: Scene) -> None:
    [(plain, html)] = await sent(scene, welcome())
    assert f"open this within two days: {LINK}" in plain
    escaped = LINK.replace("&", "&amp;")
    assert f'<a href="{escaped}">{escaped}</a>' in html
    parts = urlsplit(LINK)
    assert parts.query == ""  # which would stand in access logs
    assert parse_qs(parts.fragment) == {"user_id": [ADA], "token": ["token-of-n1"]}


async def test_a_welcome_has_its_link_in_the_readers_language(scene: Scene) -> None:
    profile = user_pb2.Profile(language_code="de-AT")
    scene.users.add(ADA, state=INACTIVE, profile=profile)
    [(plain, _)] = await sent(scene, welcome())
    assert f"innerhalb von zwei Tagen: {LINK}" in plain


async def test_who_was_activated_meanwhile_is_welcomed_without_a_link(scene: Scene) -> None:
    scene.users.add(ADA)
    [(plain, html)] = await sent(scene, welcome())
    assert "Your account is registered" in plain
    assert PAGE not in plain + html


async def test_a_shop_without_such_a_page_asks_for_no_token(scene: Scene) -> None:
    scene.activation_page = ""
    [(plain, _)] = await sent(scene, welcome())
    assert "Your account is registered" in plain
    assert scene.users.issued == []


async def test_no_other_letter_asks_for_a_token(scene: Scene) -> None:
    [(plain, _)] = await sent(scene, letter_to())
    assert PAGE not in plain
    assert scene.users.issued == []


async def test_a_letter_that_is_tried_again_asks_for_the_same_token(scene: Scene) -> None:
    scene.post.to_letter = ["451 4.3.0 later"]
    [(plain, _)] = await sent(scene, welcome())
    assert LINK in plain
    assert [request.request_id for request in scene.users.issued] == ["n1", "n1"]


async def test_a_user_service_that_issues_no_token_is_asked_again(scene: Scene) -> None:
    asked = iter(range(10))

    def refuse(_: str) -> None:
        if next(asked) in (1, 3):  # GetUser goes well, what comes after does not
            raise errors.Unavailable

    scene.users.refuse = refuse
    [(plain, _)] = await sent(scene, welcome())
    assert LINK in plain
    assert await scene.stands() == [("SENT", 1, "")]


async def test_a_token_is_neither_logged_nor_kept(scene: Scene, database_url: str) -> None:
    scene.post.to_letter = ["451 4.3.0 later, " + LINK, "554 5.7.1 spam: " + LINK]
    with captured() as lines:
        await sent(scene, welcome())
    assert await scene.stands() == [("PARKED", 2, "MESSAGE_REFUSED_554")]
    assert "token-of" not in str(lines)
    assert b"token-of" not in kept(database_url)
