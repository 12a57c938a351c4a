"""One request id, one effect, one reply: claims and what was answered, in the transaction of the effect.

    look -> there already: compare the digest, replay
    -> savepoint -> fn -> remember the answer (insert, on conflict do nothing) -> commit

A twin that comes in between (where there are several writers) has lost a race when it wants to remember: all
of it is undone, and the store runs it again, which then replays. After "Idempotency-Key" as Stripe
has it, with the digest of draft-ietf-httpapi-idempotency-key-header.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from services.chassis import context, status
from services.chassis.identity import ownership
from services.chassis.redaction import redacted
from services.chassis.storage import audit_trail
from services.chassis.storage.faults import StaleVersion
from services.chassis.storage.retention import Retention
from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement, insert
from services.kernel import errors
from services.kernel.clock import to_micros

M = TypeVar("M", bound=Message)

KEPT: Final = timedelta(hours=24)
"""How long a reply is remembered: longer than any client retries, short enough to forget people."""


class RequestIdMissing(errors.Invalid):
    """A request_id is needed, so that repeating the request does no harm."""

    field = "request_id"


class RequestIdReused(errors.Invalid):
    """The request_id {request_id} was used before, for a request with other content."""

    field = "request_id"


@dataclass(frozen=True, slots=True)
class Call:
    """One request to do something, as the store recognises it when it comes again."""

    scope: str
    """Whose request ids these are: caller and method; for public methods the method alone."""

    request_id: str
    content: bytes
    """The request without its id; only a keyed digest of it is ever stored."""

    _digests: dict[bytes, bytes] = field(default_factory=dict, compare=False, repr=False)

    def digest(self, secret: bytes) -> bytes:
        """HMAC-SHA256, so that a stolen database does not let anyone guess what was asked.

        Raises RequestIdMissing if there is no id to remember it under.
        """
        if not self.request_id:
            raise RequestIdMissing
        digest = self._digests.get(secret)
        if digest is None:  # handlers of several steps need it for each
            digest = self._digests[secret] = hmac.digest(secret, self.content, "sha256")
        return digest


def call(request: Message) -> Call:
    """The request at hand, with its scope taken from the request context."""
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField("request_id")
    return Call(
        scope=_scope(request),
        request_id=request.request_id,  # type: ignore[attr-defined]
        content=content.SerializeToString(deterministic=True),
    )


def _scope(request: Message) -> str:
    current = context.current()
    if current is None or current.method is None:
        return str(request.DESCRIPTOR.full_name)
    method = current.method
    public = method.policy is not None and method.policy.access.public
    return method.path if public or not current.caller.name else f"{current.caller.name} {method.path}"


@dataclass(frozen=True, slots=True)
class Outcome(Generic[M]):
    """How a call ended; a value, so that a remembered refusal can be committed before it is raised."""

    reply: M | None = None
    refusal: Exception | None = None

    def unwrap(self) -> M:
        """The reply; raises the refusal."""
        if self.refusal is not None:
            raise self.refusal
        if self.reply is None:
            raise AssertionError("neither a reply nor a refusal")
        return self.reply


def define(metadata: sa.MetaData) -> sa.Table:
    """Adds the table of remembered replies to a service's tables."""
    return sa.Table(
        "remembered_calls",
        metadata,
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("reply_type", sa.Text),
        sa.Column("reply", sa.LargeBinary),
        sa.Column("refusal", sa.LargeBinary),
        sa.Column("create_time", sa.BigInteger, nullable=False, index=True),
    )


_CALLS = define(sa.MetaData())
_ONE = sa.and_(
    _CALLS.c.scope == sa.bindparam("of_scope"),
    _CALLS.c.request_id == sa.bindparam("of_request_id"),
)
_REMEMBER = Statement(
    insert(_CALLS)
    .values({column.name: sa.bindparam(column.name) for column in _CALLS.columns})
    .on_conflict_do_nothing(index_elements=["scope", "request_id"])
)
_FIND = Statement(sa.select(_CALLS).where(_ONE))

RETENTION: Final = Retention(_CALLS, _CALLS.c.create_time, KEPT)
"""For the janitor: forgets what is older than a day."""


def once(
    session: Session, call: Call, digest: bytes, now: datetime, fn: Callable[[], M | errors.DomainError]
) -> Outcome[M]:
    """Runs `fn`, or replays what it led to before. Passing errors go straight through."""
    found = _find(session, call)
    if found is not None:
        return _replay(found, call, digest)
    try:
        with session.savepoint():
            answer = fn()
            if (request := audit_trail.acting()) is not None:
                audit_trail.record(session, request, answer, now=now)
    except errors.DomainError as refusal:
        if not refusal.definite:
            raise
        answer = refusal
    outcome: Outcome[M]
    if isinstance(answer, errors.DomainError):
        outcome = Outcome(refusal=answer)
        said = {"reply_type": None, "reply": None, "refusal": status.from_error(answer).SerializeToString()}
    else:
        ownership.vouch()
        outcome = Outcome(reply=answer)
        reply = redacted(answer).SerializeToString()
        said = {"reply_type": answer.DESCRIPTOR.full_name, "reply": reply, "refusal": None}
    key = {"scope": call.scope, "request_id": call.request_id}
    if not session.run(_REMEMBER, **key, digest=digest, create_time=to_micros(now), **said):
        raise StaleVersion(stream_id=call.request_id, expected_version=0)
    return outcome


def recall(session: Session, call: Call, digest: bytes, reply_type: type[M]) -> Outcome[M] | None:
    """What `once` would replay, None if there is nothing yet."""
    row = _find(session, call)
    if row is None:
        return None
    outcome = _replay(row, call, digest)
    if outcome.reply is not None and not isinstance(outcome.reply, reply_type):
        raise TypeError(f"{call.scope} was answered with a {type(outcome.reply)}, not a {reply_type}")
    return outcome


def _find(session: Session, call: Call) -> Row | None:
    return session.one(_FIND, of_scope=call.scope, of_request_id=call.request_id)


def _replay(row: Row, call: Call, digest: bytes) -> Outcome[Any]:
    if not hmac.compare_digest(row["digest"], digest):
        raise RequestIdReused(request_id=call.request_id)
    if row["refusal"] is not None:
        return Outcome(refusal=status.Refused(Status.FromString(row["refusal"])))
    ownership.answered_before()  # request ids belong to their caller
    kind = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(row["reply_type"]))
    return Outcome(reply=kind.FromString(row["reply"]))
