"""E-mail over SMTP: one connection a letter.

What the server says is repeated in logs and errors as its code only: its words may quote the address.
"""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Final, Literal

import aiosmtplib
from bodega.user.v1 import user_events_pb2 as users

from services.notification.activation import ActivationLinks
from services.notification.channels import Away, NotSent, Undeliverable
from services.notification.domain import Notification
from services.notification.letters import BadAddress, Recipient, letter
from services.notification.recipients import Recipients

Security = Literal["none", "starttls", "tls"]
PORTS: Final[dict[Security, int]] = {"none": 25, "starttls": 587, "tls": 465}

SEND_TIMEOUT_S: Final = 45.0
"""From asking for the address to the server's last word on the letter."""

QUIT_TIMEOUT_S: Final = 1.0
"""For a farewell; the letter is accepted by then, and whatever happens now changes nothing."""

BAD_ADDRESS: Final = "BAD_ADDRESS"
NOT_OFFERED: Final = "ENCRYPTION_OR_SIGN_IN_NOT_OFFERED"

_REFUSALS: Final[tuple[tuple[type[aiosmtplib.SMTPException], str], ...]] = (
    (aiosmtplib.SMTPRecipientRefused, "RECIPIENT_REFUSED"),
    (aiosmtplib.SMTPDataError, "MESSAGE_REFUSED"),
    (aiosmtplib.SMTPSenderRefused, "SENDER_REFUSED"),
    (aiosmtplib.SMTPAuthenticationError, "SIGN_IN_REFUSED"),
    (aiosmtplib.SMTPResponseException, "SERVER_REFUSED"),
)
_OF_THE_LETTER: Final = (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError)
"""Refusals of this letter. Others are of the shop, its address or password: all wait till it is mended."""

_OF_THE_SHOP: Final = frozenset({530, 534, 535, 538})
"""Codes about signing in (RFC 4954), whatever they answer."""

_TOO_LARGE: Final = 552
"""Said of the sender's address, but it is the letter whose size was told along with it (RFC 1870)."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where letters are handed in, and how."""

    host: str
    port: int
    security: Security
    timeout_s: float
    """For each single wait: connecting, each answer."""

    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    def client(self, local_hostname: str) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            local_hostname=local_hostname,
            timeout=self.timeout_s,
            use_tls=self.security == "tls",
            start_tls=self.security == "starttls",
            tls_context=self.tls,
        )


class Mail:
    """The channel that e-mails."""

    def __init__(
        self, server: MailServer, recipients: Recipients, links: ActivationLinks, *, sender: Address
    ) -> None:
        self._server = server
        self._recipients = recipients
        self._links = links
        self._sender = sender

    async def send(self, notification: Notification) -> None:
        """Returns once the server has accepted the letter; see ChannelPort for what it raises."""
        client = self._server.client(self._sender.domain)
        reached = False
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                recipient = await self._recipients.find(
                    notification.message.user_id, even_if_closed=_is_farewell(notification)
                )
                mail = self._letter(notification, recipient, await self._links.link(notification))
                await client.connect()
                reached = True
                await client.sendmail(self._sender.addr_spec, [recipient.address], mail.as_bytes())
            with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                await client.quit(timeout=QUIT_TIMEOUT_S)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _named(error, reached=reached) from None
        finally:
            client.close()

    def _letter(self, notification: Notification, recipient: Recipient, link: str) -> EmailMessage:
        try:
            return letter(notification, recipient, sender=self._sender, link=link)
        except BadAddress:
            raise Undeliverable(BAD_ADDRESS) from None


def _is_farewell(notification: Notification) -> bool:
    """That an account is closed is told to who had it; anything else is no longer their business."""
    return notification.fact.event_type == users.UserDeactivated.DESCRIPTOR.full_name


def _named(error: Exception, *, reached: bool) -> NotSent:
    """What to raise instead, without anything the server said; `reached`: it was ready for the letter."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        error = error.recipients[0]  # there is one
    problem = _problem(error)
    if not reached or _is_of_the_shop(error):
        return Away(problem)
    for_good = isinstance(error, aiosmtplib.SMTPResponseException) and 500 <= error.code < 600  # noqa: PLR2004 (RFC 5321, 4.2.1)
    return Undeliverable(problem) if for_good else NotSent(problem)


def _problem(error: Exception) -> str:
    if type(error) is aiosmtplib.SMTPException:  # what it raises if STARTTLS or AUTH is not offered
        return NOT_OFFERED
    if not isinstance(error, aiosmtplib.SMTPResponseException):
        return type(error).__name__
    return f"{next(name for kind, name in _REFUSALS if isinstance(error, kind))}_{error.code}"


def _is_of_the_shop(error: Exception) -> bool:
    if not isinstance(error, aiosmtplib.SMTPResponseException):
        return False  # a connection that breaks at a letter may break at that one only
    if isinstance(error, aiosmtplib.SMTPSenderRefused):
        return error.code != _TOO_LARGE
    return error.code in _OF_THE_SHOP or not isinstance(error, _OF_THE_LETTER)
