"""What the notification service can be told, beyond what every service can."""

import ipaddress
from email.errors import MessageError
from email.headerregistry import Address
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from services.chassis.config import ServiceSettings
from services.notification.mail import PORTS, SEND_TIMEOUT_S, Security


class NotificationSettings(ServiceSettings):
    """Settings of the notification service: `BODEGA_NOTIFICATION__…`."""

    user_target: str = "127.0.0.1:50051"
    """Where the user service is, which knows addresses: a gRPC target."""

    smtp_host: str = ""
    """The mail server. Empty: messages go to the console instead."""

    smtp_port: int | None = Field(default=None, ge=1, le=65535)
    """By default 587, 465 or 25, as `smtp_security` has it."""

    smtp_security: Security = "starttls"
    """`starttls` insists on it, `tls` speaks it from the start, `none` is for a relay next door."""

    smtp_ca_file: Path | None = None
    """Who vouches for the mail server, as PEM. By default those the system trusts."""

    smtp_username: SecretStr | None = None
    smtp_password: SecretStr | None = None
    """To sign in there; some providers use a key as the name. None: the server takes letters without."""

    smtp_timeout_s: float = Field(default=20.0, gt=0, le=SEND_TIMEOUT_S)
    """For each answer of the mail server."""

    mail_from: str = ""
    """The shop's address, on every letter; its domain also ends each Message-ID."""

    mail_from_name: str = Field(default="Bodega", max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")

    activation_page: str = ""
    """Where a welcome sends its reader to activate their account: a page of the shop's own, which takes
    `user_id` and `token` from the fragment of its address and calls ActivateUser. Empty: there is no link."""

    @property
    def mail_port(self) -> int:
        return self.smtp_port or PORTS[self.smtp_security]

    @property
    def mail_sender(self) -> Address:
        """What letters say they are from."""
        return Address(display_name=self.mail_from_name, addr_spec=self.mail_from)

    @model_validator(mode="after")
    def _mail_is_complete(self) -> Self:
        if not self.smtp_host:
            return self
        if not self._has_an_address():
            raise ValueError("mail_from must be an e-mail address, in ASCII, when smtp_host is set")
        if (self.smtp_username is None) != (self.smtp_password is None):
            raise ValueError("smtp_username and smtp_password go together")
        if self.smtp_password is not None and self.smtp_security == "none" and not _is_here(self.smtp_host):
            raise ValueError("smtp_password would be sent in clear: smtp_security must be starttls or tls")
        if self.smtp_ca_file is not None and not self.smtp_ca_file.is_file():
            raise ValueError("smtp_ca_file is not a file")
        return self

    @model_validator(mode="after")
    def _activation_page_keeps_secrets(self) -> Self:
        if not self.activation_page:
            return self
        try:
            page = urlsplit(self.activation_page)
        except ValueError:
            page = urlsplit("")
        if not page.hostname or page.fragment or page.scheme not in ("https", "http"):
            raise ValueError("activation_page must be the address of a page, without a fragment")
        if page.scheme == "http" and not _is_here(page.hostname):
            raise ValueError("activation_page would be read in clear: it must be https")
        return self

    def _has_an_address(self) -> bool:
        try:
            sender = self.mail_sender
        except (ValueError, IndexError, MessageError):  # what the parser raises, also for an empty text
            return False
        return bool(sender.username and sender.domain) and self.mail_from.isascii()


def _is_here(host: str) -> bool:
    """Whether nothing that is sent there leaves this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
