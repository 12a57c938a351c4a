"""E-mail to a real SMTP server on 127.0.0.1, to addresses asked for over gRPC."""

import asyncio
from email.message import EmailMessage
from typing import Any

import orjson
import pytest
from bodega.user.v1 import user_pb2

from services.chassis import failpoints
from services.chassis.telemetry import captured
from services.chassis.testing import free_port, until
from services.kernel import errors
from services.kernel.clock import SystemClock
from services.notification import mail as mail_module
from services.notification import sender as sender_module
from services.notification.domain import TRIES_MAX, Channel, Fact, Message, Notification
from services.notification.sender import AFTER_SEND, BEFORE_SEND
from tests.databases import kept
from tests.notification.post import ADA, BOB, Scene, letter_to
from tests.notification.stage import WAIT_MAX_S


def parts(mail: EmailMessage) -> list[str]:
    return [str(part.get_content()) for part in mail.iter_parts() if isinstance(part, EmailMessage)]


async def test_a_letter_reaches_its_reader_as_text_and_html(scene: Scene) -> None:
    scene.users.add(
        ADA, "ada@example.com", profile=user_pb2.Profile(display_name="Žofie 李雷 & Co", language_code="de")
    )
    confirmed = Message(ADA, "Title", "Body", "o1", {"order_id": "o1", "amount": "9.50 USD"})
    fact = Fact("e1", "bodega.order.v1.OrderConfirmed")
    await scene.add(
        Notification.write("n1", confirmed, fact, channel=Channel.EMAIL, at=SystemClock().now()),
    )
    async with scene.mailing(scene.post.port):
        await scene.settled()
    [mail] = scene.post.read()
    assert scene.post.envelopes == [("shop@bodega.example", ["ada@example.com"])]
    assert (mail["Subject"], mail["Message-ID"]) == ("Bestellung bestätigt", "<n1@bodega.example>")
    assert mail["To"].addresses[0].display_name == "Žofie 李雷 & Co"
    plain, html = parts(mail)
    assert "Hallo Žofie 李雷 & Co," in plain
    assert "Hallo Žofie 李雷 &amp; Co," in html
    assert all("Ihre Bestellung o1 über 9.50 USD ist bestätigt." in said for said in (plain, html))
    assert await scene.stands() == [("SENT", 1, "")]


async def test_a_username_with_lines_of_its_own_adds_nothing_to_a_letter(scene: Scene) -> None:
    scene.users.add(ADA, username="ada\r\nBcc: eve@example.com\r\n\r\n.\r\nRCPT TO:<eve@example.com>")
    await scene.add(letter_to())
    async with scene.mailing(scene.post.port):
        await scene.settled()
    [mail] = scene.post.read()
    assert mail["Bcc"] is None
    assert scene.post.envelopes == [("shop@bodega.example", ["ada@example.com"])]


async def test_an_address_is_the_one_of_the_moment_it_is_sent_to(scene: Scene) -> None:
    await scene.add(letter_to())
    scene.users.add(ADA, "new@example.com")
    async with scene.mailing(scene.post.port):
        await scene.settled()
    assert scene.post.envelopes[0][1] == ["new@example.com"]


async def test_what_is_refused_for_now_is_tried_again(scene: Scene) -> None:
    scene.post.to_recipient = ["450 4.2.0 greylisted", "421 4.3.2 busy"]
    scene.post.to_letter = ["451 4.3.0 later"]
    await scene.add(letter_to())
    async with scene.mailing(scene.post.port):
        await scene.settled()
    assert len(scene.post.letters) == 1
    assert await scene.stands() == [("SENT", 4, "")]


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"to_recipient": ["550 5.1.1 <ada@example.com> unknown"]}, "RECIPIENT_REFUSED_550"),
        ({"to_letter": ["554 5.7.1 spam for ada@example.com"]}, "MESSAGE_REFUSED_554"),
    ],
)
async def test_what_is_refused_for_good_is_parked_at_once_and_lets_the_next_go(
    scene: Scene, answers: dict[str, list[str]], problem: str
) -> None:
    for name, answer in answers.items():
        setattr(scene.post, name, answer)
    await scene.add(letter_to(), letter_to(number=2))
    async with scene.mailing(scene.post.port):
        await scene.settled(2)
    assert await scene.stands() == [("PARKED", 1, problem), ("SENT", 1, "")]
    assert [mail["Message-ID"] for mail in scene.post.read()] == ["<n2@bodega.example>"]


async def test_what_is_the_shops_own_fault_waits_for_it_to_be_mended(scene: Scene) -> None:
    scene.post.to_sender = ["550 5.7.1 who are you?", "452 4.3.1 full"] * TRIES_MAX
    scene.post.to_recipient = ["530 5.7.0 sign in first"] * TRIES_MAX
    await scene.add(letter_to())
    async with scene.mailing(scene.post.port):
        await scene.settled()
    assert await scene.stands() == [("SENT", 1, "")]


async def test_a_letter_too_large_for_the_server_does_not_hold_up_the_others(scene: Scene) -> None:
    scene.post.to_sender = ["552 5.3.4 too large"]
    await scene.add(letter_to(), letter_to(number=2))
    async with scene.mailing(scene.post.port):
        await scene.settled(2)
    assert await scene.stands() == [("PARKED", 1, "SENDER_REFUSED_552"), ("SENT", 1, "")]


async def test_a_server_that_stays_away_costs_no_letter_a_try_and_gets_all_when_it_is_back(
    scene: Scene,
) -> None:
    scene.users.add(BOB, "bob@example.com")
    await scene.add(letter_to(), letter_to(BOB, 2), letter_to(number=3))
    with captured("warning") as lines:
        async with scene.mailing(free_port()):
            await until(lambda: len(lines) > TRIES_MAX)
    assert {(line["event"], line["problem"]) for line in lines} == {
        ("nothing gets through", "SMTPConnectError")
    }
    assert await scene.stands() == [("PENDING", 0, "")] * 3
    async with scene.mailing(scene.post.port):
        await scene.settled(3)
    assert await scene.stands() == [("SENT", 1, "")] * 3


async def test_a_server_that_says_nothing_is_given_up_on_and_tried_again(scene: Scene) -> None:
    callers: list[asyncio.StreamWriter] = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer)

    await scene.add(letter_to())
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, scene.mailing(server.sockets[0].getsockname()[1], timeout_s=0.02):
        await until(lambda: len(callers) > TRIES_MAX)
        for writer in callers:
            writer.close()
    assert await scene.stands() == [("PENDING", 0, "")]


async def test_a_server_that_hangs_up_on_one_letter_parks_that_one_and_takes_the_others(
    scene: Scene,
) -> None:
    scene.users.add(BOB, "bob@example.com")
    scene.post.hangs_up_on = "bob@example.com"
    await scene.add(letter_to(BOB), letter_to(number=2))
    async with scene.mailing(scene.post.port):
        await scene.settled(2)
    assert await scene.stands() == [("PARKED", TRIES_MAX, "SMTPServerDisconnected"), ("SENT", 1, "")]


async def test_a_server_slow_to_say_goodbye_has_the_letter_all_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_module, "QUIT_TIMEOUT_S", 0.02)
    scene.post.lets_go.clear()
    await scene.add(letter_to())
    async with scene.mailing(scene.post.port):
        await scene.settled()
    assert await scene.stands() == [("SENT", 1, "")]
    assert len(scene.post.letters) == 1


@pytest.mark.parametrize(
    ("user", "problem"),
    [
        (None, "USER_UNKNOWN"),
        ({"email": ""}, "NO_ADDRESS"),
        ({"email": "ada@example.com>\r\nDATA"}, "BAD_ADDRESS"),
        ({"state": user_pb2.User.STATE_DEACTIVATED}, "USER_DEACTIVATED"),
    ],
)
async def test_whom_no_letter_can_reach_is_not_written_to_and_the_row_says_why(
    scene: Scene, user: dict[str, Any] | None, problem: str
) -> None:
    if user is not None:
        scene.users.add(BOB, **user)
    await scene.add(letter_to(BOB))
    async with scene.mailing(scene.post.port):
        await scene.settled()
    assert await scene.stands() == [("PARKED", 1, problem)]
    assert scene.post.visits == 0


async def test_that_an_account_is_closed_is_told_to_who_had_it(scene: Scene) -> None:
    scene.users.add(ADA, state=user_pb2.User.STATE_DEACTIVATED)
    farewell = Message(ADA, "Account closed", "Your account is closed.")
    fact = Fact("e1", "bodega.user.v1.UserDeactivated")
    await scene.add(Notification.write("n1", farewell, fact, channel=Channel.EMAIL, at=SystemClock().now()))
    async with scene.mailing(scene.post.port):
        await scene.settled()
    assert await scene.stands() == [("SENT", 1, "")]


async def test_a_user_service_that_does_not_answer_is_asked_again(scene: Scene) -> None:
    failures = iter((errors.Unavailable, RuntimeError))

    def refuse(_: str) -> None:
        if kind := next(failures, None):
            raise kind

    scene.users.refuse = refuse
    await scene.add(letter_to())
    async with scene.mailing(scene.post.port):
        await scene.settled()
    assert await scene.stands() == [("SENT", 2, "")]


@pytest.mark.parametrize("site", [BEFORE_SEND, AFTER_SEND])
async def test_a_crash_around_the_send_repeats_the_letter_under_the_same_message_id(
    scene: Scene,
    quiet_failpoints: None,
    monkeypatch: pytest.MonkeyPatch,
    site: str,
) -> None:
    monkeypatch.setattr(sender_module, "LEAVE_S", 0.02)
    await scene.add(letter_to())
    failpoints.configure(f"{site}=delay(60)", production=False)
    async with scene.mailing(scene.post.port):
        if site == AFTER_SEND:
            async with asyncio.timeout(WAIT_MAX_S):
                await scene.post.arrived.wait()
    assert await scene.stands() == [("PENDING", 0, "")]
    failpoints.configure("", production=False)
    async with scene.mailing(scene.post.port):
        await scene.settled()
    assert len(scene.post.letters) == (2 if site == AFTER_SEND else 1)
    assert {mail["Message-ID"] for mail in scene.post.read()} == {"<n1@bodega.example>"}
    assert len(set(scene.post.letters)) == 1  # the same to the last byte


@pytest.mark.parametrize(("site", "letters"), [(BEFORE_SEND, 1), (AFTER_SEND, 3)])
async def test_a_fault_played_around_the_send_is_weather_like_any(
    scene: Scene, quiet_failpoints: None, site: str, letters: int
) -> None:
    failpoints.configure(f"{site}=error(UNAVAILABLE)*2", production=False)
    await scene.add(letter_to())
    async with scene.mailing(scene.post.port):
        await scene.settled()
    assert await scene.stands() == [("SENT", 3, "")]
    assert len(scene.post.letters) == letters


async def test_a_crash_before_the_servers_last_word_repeats_the_same_letter(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "LEAVE_S", 0.02)
    scene.post.accepts.clear()
    await scene.add(letter_to())
    async with scene.mailing(scene.post.port):
        async with asyncio.timeout(WAIT_MAX_S):
            await scene.post.arrived.wait()
    scene.post.accepts.set()
    async with scene.mailing(scene.post.port):
        await scene.settled()
    assert len(scene.post.letters) == 2
    assert len(set(scene.post.letters)) == 1


async def test_nothing_personal_is_logged_or_kept_whatever_goes_wrong(
    scene: Scene, database_url: str
) -> None:
    secrets = ("ada@example.com", "Lovelace", "adalove")
    scene.users.add(ADA, secrets[0], username=secrets[2], profile=user_pb2.Profile(display_name=secrets[1]))
    scene.users.add(BOB, "lovelace", profile=user_pb2.Profile(display_name=secrets[1]))
    scene.post.to_recipient = [
        "450 4.2.0 <ada@example.com> Lovelace: later",
        "550 5.1.1 <ada@example.com> unknown",
    ]
    scene.post.to_letter = ["554 no, ada@example.com"]
    with captured() as lines:
        await scene.add(letter_to(), letter_to(number=2), letter_to(number=3), letter_to(BOB, 4))
        async with scene.mailing(scene.post.port):
            await scene.settled(4)
    assert [problem for *_, problem in await scene.stands()] == [
        "RECIPIENT_REFUSED_550", "MESSAGE_REFUSED_554", "", "BAD_ADDRESS",
    ]  # fmt: skip
    told = [line for line in lines if line["event"] == "message not sent"]
    assert [line["state"] for line in told].count("PARKED") == 3
    ours = [line for line in lines if line["logger"] != "mail.log"]  # what the post office itself says
    said = orjson.dumps(ours, default=str) + kept(database_url)
    assert not [secret for secret in (*secrets, "lovelace") if secret.encode() in said]
