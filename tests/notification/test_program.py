"""Two services as they are started, a broker between them: from an account opened to its owner told."""

from pathlib import Path

import orjson
import pytest
from bodega.notification.v1 import notification_pb2
from bodega.notification.v1.notification_pb2_grpc import NotificationServiceStub
from bodega.user.v1 import user_pb2
from bodega.user.v1.user_pb2_grpc import UserServiceStub

from services.chassis import client
from services.chassis.events.server import NatsServer
from services.chassis.storage.migrations import migrate
from services.notification import __main__ as notification_program
from services.notification.config import NotificationSettings
from services.user import __main__ as user_program
from services.user.config import UserSettings
from tests.chassis.events.waiting import eventually

SERVICES = Path(user_program.__file__).parents[1]


def migrated(folder: Path, service: str) -> str:
    url = f"sqlite:///{folder / service}.db"
    migrate(url, SERVICES / service / "migrations")
    return url


async def test_who_registers_is_welcomed_once_on_the_console(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with NatsServer(tmp_path / "nats") as nats:
        user_settings = UserSettings(
            service="user",
            database_url=migrated(tmp_path, "user"),
            nats_url=nats.url,
            password_time_cost=1,
            password_memory_kib=32,
            password_parallelism=1,
        )
        notification_settings = NotificationSettings(
            service="notification", database_url=migrated(tmp_path, "notification"), nats_url=nats.url
        )
        async with (
            user_program.assembled(user_settings) as user,
            notification_program.assembled(notification_settings) as notification,
            user.running(),
            notification.running(),
            client.connect(user.grpc_address, user_pb2.DESCRIPTOR) as to_user,
            client.connect(notification.grpc_address, notification_pb2.DESCRIPTOR) as to_notification,
        ):
            registered = await UserServiceStub(to_user).RegisterUser(
                user_pb2.RegisterUserRequest(
                    email="ada@example.com", username="ada", password="correct horse"
                )
            )
            notifications = NotificationServiceStub(to_notification)
            request = notification_pb2.ListNotificationsRequest(user_id=registered.user_id)

            async def told() -> bool:
                shown = (await notifications.ListNotifications(request)).notifications
                return any(found.state == notification_pb2.Notification.STATE_SENT for found in shown)

            await eventually(told)
            [welcome] = (await notifications.ListNotifications(request)).notifications
    printed = [orjson.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [line["notification_id"] for line in printed] == [welcome.notification_id]
    assert (printed[0]["title"], printed[0]["user_id"]) == ("Welcome", registered.user_id)
    assert b"ada@example.com" not in orjson.dumps(printed)
