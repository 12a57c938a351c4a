"""Secrets that can be told from anything else, one for every field that a contract marks `debug_redact`."""

import base64
import binascii
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.chassis.redaction import carries_secrets, is_secret

_MARK = re.compile(rb"s33d[0-9a-f]{16}", re.IGNORECASE)  # survives JSON, URLs and lower-casing
_PHONE = re.compile(rb"9900[0-9]{10}")
_CARD = re.compile(rb"tok_(?:visa|mastercard|amex)_[0-9]{4}")
_HASH = re.compile(rb"\$argon2\w+\$")
_ENCODED = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
_TAIL = 24  # of a token: for a JWT, of its signature

PASSWORD, EMAIL, NAME, PHONE, CARD, TOKEN = (
    "password",
    "e-mail address",
    "display name",
    "phone number",
    "provider token",
    "token",
)
PASSWORD_HASH = "password hash"

Make = Callable[[], str]


def mark() -> str:
    return f"s33d{secrets.token_hex(8)}"


def _phone() -> str:
    return f"+9900{secrets.randbelow(10**10):010}"


def _card() -> str:
    """The sandbox takes few: see its tokens. 0000 to 4000 are no test's but ours."""
    return f"tok_{secrets.choice(('visa', 'mastercard', 'amex'))}_{secrets.randbelow(4000):04}"


_MAKE: dict[str, Make] = {
    PASSWORD: mark,
    EMAIL: lambda: f"{mark()}@example.com",
    NAME: mark,
    PHONE: _phone,
    CARD: _card,
    TOKEN: mark,
}

FIELDS = {
    "bodega.payment.v1.AddPaymentMethodRequest.provider_token": CARD,
    "bodega.user.v1.ActivateUserRequest.activation_token": TOKEN,
    "bodega.user.v1.ChangePasswordRequest.current_password": PASSWORD,
    "bodega.user.v1.ChangePasswordRequest.new_password": PASSWORD,
    "bodega.user.v1.CreateAdministratorRequest.email": EMAIL,
    "bodega.user.v1.CreateAdministratorRequest.password": PASSWORD,
    "bodega.user.v1.CreateSessionRequest.email": EMAIL,
    "bodega.user.v1.CreateSessionRequest.password": PASSWORD,
    "bodega.user.v1.ExchangeApiKeyRequest.api_key": TOKEN,
    "bodega.user.v1.ListUsersRequest.email_prefix": EMAIL,
    "bodega.user.v1.Profile.display_name": NAME,
    "bodega.user.v1.Profile.phone_number": PHONE,
    "bodega.user.v1.RefreshSessionRequest.refresh_token": TOKEN,
    "bodega.user.v1.RegisterUserRequest.email": EMAIL,
    "bodega.user.v1.RegisterUserRequest.password": PASSWORD,
    "bodega.user.v1.RevokeSessionRequest.refresh_token": TOKEN,
    "bodega.user.v1.User.email": EMAIL,
}
"""The kind of secret that a field of a request holds."""


@dataclass
class Known:
    """Every secret of this run, and what kind it is."""

    _kinds: dict[str, str] = field(default_factory=dict)
    _whole: dict[bytes, str] = field(default_factory=dict)
    handed_out: set[str] = field(default_factory=set)
    """Fields of replies in which a secret came."""

    def new(self, kind: str) -> str:
        made = _MAKE[kind]()
        self._kinds[_key(made)] = kind
        return made

    def given(self, kind: str, value: str) -> None:
        """A secret that is not of our making, such as a token or a key."""
        if not _MARK.search(value.encode()) and not _PHONE.search(value.encode()) and value:
            self._whole[value.encode()[-_TAIL:]] = kind

    def harvest(self, reply: Message) -> None:
        for found, value in secrets_in(reply):
            self.handed_out.add(found.full_name)
            self.given(found.name, value)

    def in_(self, content: bytes) -> set[str]:
        """Kinds of the secrets in it, also in what is Base64 in it."""
        found = self._in(content)
        for run in _ENCODED.findall(content):
            found |= self._in(_decoded(run))
        return found

    def _in(self, content: bytes) -> set[str]:
        marks = (*_MARK.findall(content), *_PHONE.findall(content), *_CARD.findall(content))
        found = {self._kinds[key] for mark in marks if (key := mark.decode().lower()) in self._kinds}
        found |= {kind for whole, kind in self._whole.items() if whole in content}
        return found | ({PASSWORD_HASH} if _HASH.search(content) else set())


def redacted_fields(kind: Descriptor, seen: frozenset[str] = frozenset()) -> Iterator[FieldDescriptor]:
    """All that a message of this kind may hold, however deep."""
    if kind.full_name in seen or not carries_secrets(kind):
        return
    for found in kind.fields:
        if is_secret(found):
            yield found
        elif found.message_type is not None:
            yield from redacted_fields(found.message_type, seen | {kind.full_name})


def secrets_in(message: Message) -> Iterator[tuple[FieldDescriptor, str]]:
    for found, value in message.ListFields():
        if is_secret(found):
            yield found, str(value)
        elif found.message_type is not None and not found.message_type.GetOptions().map_entry:
            for part in value if found.is_repeated else (value,):
                yield from secrets_in(part)


def _key(secret: str) -> str:
    for pattern in (_MARK, _PHONE, _CARD):
        if match := pattern.search(secret.encode()):
            return match.group().decode().lower()
    raise AssertionError(f"{secret} could not be found again")


def _decoded(run: bytes) -> bytes:
    standard = run.translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(standard + b"=" * (-len(standard) % 4))
    except binascii.Error:  # a letter too many
        return base64.b64decode(standard[:-1])
