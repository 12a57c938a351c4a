"""Two notification replicas on one database, a mail server between them and the readers: one letter each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from ipaddress import ip_network
from pathlib import Path

import pytest
from bodega.user.v1 import user_pb2
from bodega.user.v1.user_pb2_grpc import UserServiceStub

from services.chassis import client
from services.chassis.testing import until
from services.notification import sender
from services.notification.__main__ import assembled
from services.notification.config import NotificationSettings
from services.user import __main__ as user_program
from tests.chassis.proofs import proving
from tests.databases import Databases, connected, only_postgresql
from tests.notification.post import Post, post_office
from tests.notification.test_program import migrated, settings_of_user

BATCH = 5


class Replica:
    """One process's worth of the service, which stops when it is told to."""

    def __init__(self, settings: NotificationSettings) -> None:
        self._settings = settings
        self._up = asyncio.Event()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def up(self) -> None:
        await asyncio.wait(
            {self._task, up := asyncio.create_task(self._up.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        if not up.done():
            up.cancel()
            self._task.result()

    async def stopped(self) -> None:
        self._stop.set()
        await self._task

    async def _run(self) -> None:
        async with assembled(self._settings) as server, server.running():
            self._up.set()
            await self._stop.wait()


class Readers:
    """People who register, each of whom is to be welcomed once."""

    def __init__(self, users: UserServiceStub, post: Post, database_url: str) -> None:
        self._users = users
        self._post = post
        self._database_url = database_url
        self.known = 0

    async def register(self, number: int) -> None:
        """Returns when letters to all of them have arrived."""
        for _ in range(number):
            self.known += 1
            name = f"reader-{self.known}"
            await self._users.RegisterUser(
                user_pb2.RegisterUserRequest(
                    email=f"{name}@example.com", username=name, password="correct horse"
                )
            )
        await until(lambda: len(self._post.letters) >= self.known)

    def assert_welcomed_once(self) -> None:
        letters = self._post.read()
        assert len({letter["Message-ID"] for letter in letters}) == self.known
        assert len({letter["To"] for letter in letters}) == self.known
        assert len(letters) == self.known

    def assert_noted(self) -> None:
        with closing(connected(self._database_url)) as books:
            rows = books.execute("SELECT state, tries FROM notifications").fetchall()
        assert sorted(map(tuple, rows)) == [("SENT", 1)] * self.known


@asynccontextmanager
async def stage(
    tmp_path: Path, databases: Databases
) -> AsyncIterator[tuple[Post, Readers, NotificationSettings]]:
    everyone = {"rates_exempt": (ip_network("127.0.0.0/8"),)}  # more register than may in a minute
    async with (
        proving(tmp_path) as proofs,
        proofs.broker(tmp_path / "nats") as nats,
        post_office() as post,
        user_program.assembled(
            settings_of_user(proofs, databases, nats.url).model_copy(update=everyone)
        ) as user,
        user.running(),
        client.connect(user.grpc_address, user_pb2.DESCRIPTOR) as to_user,
    ):
        settings = NotificationSettings(
            **proofs.settings("notification"),
            database_url=migrated(databases, "notification"),
            nats_url=nats.url,
            user_target=user.mesh_address,
            smtp_host="127.0.0.1",
            smtp_port=post.port,
            smtp_security="none",
            mail_from="shop@bodega.example",
        )
        yield post, Readers(UserServiceStub(to_user), post, settings.database_url), settings


@only_postgresql
async def test_of_two_replicas_one_sends_and_the_other_goes_on_when_it_stops(
    tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "LOOK_OFTEN_S", 0.02)  # whoever would send as well has looked many times
    async with stage(tmp_path, databases) as (post, readers, settings), AsyncExitStack() as stack:
        one = Replica(settings)
        stack.push_async_callback(one.stopped)
        await one.up()
        await readers.register(1)  # so it is this one that sends
        other = Replica(settings)
        stack.push_async_callback(other.stopped)
        await other.up()

        post.accepts.clear()  # letters are handed over, and not yet taken
        await readers.register(BATCH)
        await readers.register(BATCH)
        readers.assert_welcomed_once()

        stopping = asyncio.create_task(one.stopped())
        post.accepts.set()
        await stopping
        await readers.register(BATCH)
        await other.stopped()
        readers.assert_welcomed_once()
        readers.assert_noted()
