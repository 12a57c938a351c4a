"""Two services as they are started, a broker between them: from an account opened to its owner told."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import orjson
import pytest
from bodega.notification.v1 import notification_pb2
from bodega.notification.v1.notification_pb2_grpc import NotificationServiceStub
from bodega.user.v1 import user_pb2
from bodega.user.v1.user_pb2_grpc import UserServiceStub

from services.chassis import client, failpoints
from services.chassis.storage.migrations import migrate
from services.notification import __main__ as notification_program
from services.notification.config import NotificationSettings
from services.notification.sender import AFTER_SEND
from services.user import __main__ as user_program
from services.user.config import UserSettings
from tests.chassis.events.waiting import eventually
from tests.chassis.proofs import Proofs, proving
from tests.databases import Databases, kept
from tests.notification.post import post_office
from tests.notification.stage import WAIT_MAX_S

SERVICES = Path(user_program.__file__).parents[1]


def migrated(databases: Databases, service: str) -> str:
    url = databases.new(service)
    migrate(url, SERVICES / service / "migrations")
    return url


ADA = user_pb2.RegisterUserRequest(
    email="ada@example.com",
    username="ada",
    password="correct horse",
    profile=user_pb2.Profile(display_name="Ada Lovelace"),
)


@pytest.fixture
async def proofs(tmp_path: Path) -> AsyncIterator[Proofs]:
    async with proving(tmp_path) as made:
        yield made


def settings_of_user(proofs: Proofs, databases: Databases, nats_url: str) -> UserSettings:
    return UserSettings(
        **proofs.settings("user"),
        database_url=migrated(databases, "user"),
        nats_url=nats_url,
        password_time_cost=1,
        password_memory_kib=32,
        password_parallelism=1,
    )


async def test_who_registers_is_welcomed_once_on_the_console(
    tmp_path: Path, databases: Databases, proofs: Proofs, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with proofs.broker(tmp_path / "nats") as nats:
        user_settings = settings_of_user(proofs, databases, nats.url)
        notification_settings = NotificationSettings(
            **proofs.settings("notification"),
            database_url=migrated(databases, "notification"),
            nats_url=nats.url,
        )
        async with (
            user_program.assembled(user_settings) as user,
            notification_program.assembled(notification_settings) as notification,
            user.running(),
            notification.running(),
            client.connect(user.grpc_address, user_pb2.DESCRIPTOR) as to_user,
            client.connect(notification.grpc_address, notification_pb2.DESCRIPTOR) as to_notification,
        ):
            registered = await UserServiceStub(to_user).RegisterUser(ADA)
            notifications = NotificationServiceStub(to_notification)
            request = notification_pb2.ListNotificationsRequest(user_id=registered.user_id)

            async def told() -> bool:
                shown = (await notifications.ListNotifications(request)).notifications
                return any(found.state == notification_pb2.Notification.STATE_SENT for found in shown)

            with proofs.asking(registered.user_id):
                await eventually(told)
                [welcome] = (await notifications.ListNotifications(request)).notifications
    printed = [orjson.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [line["notification_id"] for line in printed] == [welcome.notification_id]
    assert (printed[0]["title"], printed[0]["user_id"]) == ("Welcome", registered.user_id)
    assert b"ada@example.com" not in orjson.dumps(printed)


async def test_who_follows_the_link_in_their_welcome_may_buy(
    tmp_path: Path, databases: Databases, proofs: Proofs
) -> None:
    async with (
        proofs.broker(tmp_path / "nats") as nats,
        post_office() as post,
        user_program.assembled(settings_of_user(proofs, databases, nats.url)) as user,
        user.running(),
        notification_program.assembled(
            NotificationSettings(
                **proofs.settings("notification"),
                database_url=migrated(databases, "notification"),
                nats_url=nats.url,
                user_target=user.mesh_address,
                smtp_host="127.0.0.1",
                smtp_port=post.port,
                smtp_security="none",
                mail_from="shop@bodega.example",
                activation_page="https://shop.example/activate",
            )
        ) as notification,
        notification.running(),
        client.connect(user.grpc_address, user_pb2.DESCRIPTOR) as to_user,
    ):
        users = UserServiceStub(to_user)
        registered = await users.RegisterUser(ADA)
        await eventually(lambda: arrived(post.letters, 1))
        [welcome] = post.read()
        body = welcome.get_body(("plain",))
        assert body is not None
        link = re.search(r"https://shop\.example/activate#(\S+)", body.get_content())
        assert link
        said = parse_qs(link[1])
        assert said["user_id"] == [registered.user_id]
        request = user_pb2.ActivateUserRequest(user_id=registered.user_id, activation_token=said["token"][0])
        assert (await users.ActivateUser(request)).state == user_pb2.User.STATE_ACTIVE


async def test_a_process_killed_right_after_a_send_repeats_the_letter_under_its_message_id(
    tmp_path: Path, databases: Databases, proofs: Proofs
) -> None:
    async with (
        proofs.broker(tmp_path / "nats") as nats,
        user_program.assembled(settings_of_user(proofs, databases, nats.url)) as user,
        user.running(),
        client.connect(user.grpc_address, user_pb2.DESCRIPTOR) as to_user,
        post_office() as post,
    ):
        await UserServiceStub(to_user).RegisterUser(ADA)
        told = {
            "DATABASE_URL": migrated(databases, "notification"),
            "NATS_URL": nats.url,
            "USER_TARGET": user.mesh_address,
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(post.port),
            "SMTP_SECURITY": "none",
            "MAIL_FROM": "shop@bodega.example",
        }
        environment = {
            **proofs.environment("notification"),
            **{f"BODEGA_NOTIFICATION__{name}": value for name, value in told.items()},
        }
        killed = await started(environment | {failpoints.VARIABLE: f"{AFTER_SEND}=exit"})
        said, _ = await ended(killed)
        assert killed.returncode == failpoints.EXIT_CODE
        assert len(post.letters) == 1
        after = await started(environment)
        await eventually(lambda: arrived(post.letters, 2))
        after.terminate()
        said_after, _ = await ended(after)
        assert after.returncode == 0
    assert len({mail["Message-ID"] for mail in post.read()}) == 1
    assert all(b"Hello Ada Lovelace," in letter for letter in post.letters)
    for secret in (b"ada@example.com", b"Lovelace"):
        assert secret not in said + said_after
        assert secret not in kept(told["DATABASE_URL"])


async def started(environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.notification"),
        env={**os.environ, **environment},
        cwd=SERVICES.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[bytes, bytes | None]:
    try:
        async with asyncio.timeout(WAIT_MAX_S):
            return await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def arrived(letters: list[bytes], count: int) -> bool:
    return len(letters) == count
