"""A mail server that does as it is told, and users who have addresses."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from typing import Any

import sqlalchemy as sa
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from bodega.user.v1 import user_pb2, user_pb2_grpc

from services.kernel import errors
from services.kernel.clock import SystemClock
from services.notification.activation import ActivationLinks
from services.notification.domain import Channel, Notification, State
from services.notification.mail import Mail, MailServer
from services.notification.recipients import Recipients
from services.notification.sender import Sender
from services.notification.tables import notifications
from tests.notification.stage import WAIT_MAX_S, Messages, Watched, add, written

ADA = "0190bbbb-0000-7000-8000-00000000000a"
BOB = "0190bbbb-0000-7000-8000-00000000000b"
SHOP = Address("Bodega", addr_spec="shop@bodega.example")


@dataclass
class Post:
    """What was handed in, and what is answered. Answers are used up from the left; then all is accepted."""

    port: int = 0
    letters: list[bytes] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    signed_in: list[bytes] = field(default_factory=list)
    to_sender: list[str] = field(default_factory=list)
    to_recipient: list[str] = field(default_factory=list)
    to_letter: list[str] = field(default_factory=list)
    hangs_up_on: str = ""
    accepts: asyncio.Event = field(default_factory=asyncio.Event)
    lets_go: asyncio.Event = field(default_factory=asyncio.Event)
    visits: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def read(self) -> list[EmailMessage]:
        parsed = [message_from_bytes(letter, EmailMessage, policy=POLICY) for letter in self.letters]
        return [letter for letter in parsed if isinstance(letter, EmailMessage)]

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.visits += 1
        return responses

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.to_sender:
            return self.to_sender.pop(0)
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address == self.hangs_up_on:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        if self.to_recipient:
            return self.to_recipient.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.to_letter:
            return self.to_letter.pop(0)
        assert isinstance(envelope.content, bytes)
        self.letters.append(envelope.content)
        self.envelopes.append((envelope.mail_from or "", list(envelope.rcpt_tos)))
        self.encrypted.append(session.ssl is not None)
        self.arrived.set()
        await self.accepts.wait()
        return "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await self.lets_go.wait()
        return "221 Bye"

    def sign_in(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: Any
    ) -> AuthResult:
        assert isinstance(login, LoginPassword)
        self.signed_in.append(login.login)
        return AuthResult(success=login.password == b"right", handled=False)


@asynccontextmanager
async def post_office(**options: Any) -> AsyncIterator[Post]:
    """A real SMTP server on a free port of 127.0.0.1, in this loop. Options are those of aiosmtpd's SMTP."""
    post = Post()
    post.accepts.set()
    post.lets_go.set()
    loop = asyncio.get_running_loop()
    implicit: ssl.SSLContext | None = options.pop("tls_from_the_start", None)

    def session() -> SMTP:
        return SMTP(post, loop=loop, hostname="post", authenticator=post.sign_in, **options)

    server = await loop.create_server(session, "127.0.0.1", 0, ssl=implicit)
    post.port = server.sockets[0].getsockname()[1]
    try:
        yield post
    finally:
        post.accepts.set()
        post.lets_go.set()
        server.close()


class UserNotFound(errors.NotFound):
    """User {user_id} does not exist."""


class UserNotActivatable(errors.WrongState):
    """User {user_id} is not inactive."""


def no_reason(_: str) -> None:
    """The service answers."""


class Users(user_pb2_grpc.UserServiceServicer):
    """Answers for the users it was told of, without checking what they are called."""

    def __init__(self) -> None:
        self.stub: user_pb2_grpc.UserServiceStub
        self.known: dict[str, user_pb2.User] = {}
        self.refuse: Callable[[str], None] = no_reason
        self.issued: list[user_pb2.IssueActivationTokenRequest] = []

    def add(self, user_id: str, email: str = "ada@example.com", **more: Any) -> None:
        more.setdefault("username", "ada")
        more.setdefault("state", user_pb2.User.STATE_ACTIVE)
        self.known[user_id] = user_pb2.User(user_id=user_id, email=email, **more)

    async def GetUser(self, request: user_pb2.GetUserRequest, context: Any) -> user_pb2.User:
        self.refuse(request.user_id)
        if request.user_id not in self.known:
            raise UserNotFound(user_id=request.user_id)
        return self.known[request.user_id]

    async def IssueActivationToken(
        self, request: user_pb2.IssueActivationTokenRequest, context: Any
    ) -> user_pb2.IssueActivationTokenResponse:
        self.refuse(request.user_id)
        self.issued.append(request)
        if self.known[request.user_id].state != user_pb2.User.STATE_INACTIVE:
            raise UserNotActivatable(user_id=request.user_id)
        return user_pb2.IssueActivationTokenResponse(activation_token=f"token-of-{request.request_id}")


@dataclass
class Scene:
    """Messages to send, users to send them to, and a mail server."""

    store: Messages
    watched: Watched
    users: Users
    post: Post
    activation_page: str = ""

    async def add(self, *messages: Notification) -> None:
        await add(self.store, *messages)

    @asynccontextmanager
    async def mailing(self, port: int, **server: Any) -> AsyncIterator[None]:
        """A sender at work, whose waits between tries are none. `server`: as MailServer takes it."""
        options: dict[str, Any] = {"security": "none", "timeout_s": 5.0} | server
        where = MailServer("127.0.0.1", port, **options)
        links = ActivationLinks(self.users.stub, self.activation_page)
        channels = {Channel.EMAIL: Mail(where, Recipients(self.users.stub), links, sender=SHOP)}
        sender = Sender(self.store, channels, clock=SystemClock(), random=lambda: 0.0)
        task = asyncio.create_task(sender.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=WAIT_MAX_S)

    async def settled(self, count: int = 1) -> None:
        """So many are sent or parked."""
        await self.watched.until(
            lambda tx: tx.notifications.count(State.SENT) + tx.notifications.count(State.PARKED) == count
        )

    async def stands(self) -> list[tuple[str, int, str]]:
        """State, tries and problem of every message, in the order they were written."""
        query = sa.select(notifications.c.state, notifications.c.tries, notifications.c.problem)
        rows = await self.store.fetch(query.order_by(notifications.c.sequence))
        return [(row["state"], row["tries"], row["problem"]) for row in rows]


def letter_to(user_id: str = ADA, number: int = 1) -> Notification:
    return written(number, user_id, Channel.EMAIL)
