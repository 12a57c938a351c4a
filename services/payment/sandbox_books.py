"""The sandbox provider's books: what a small acquirer writes down. Its database is its own; we only ask it.

Every operation is kept under the key it came with, and that key gets the same answer for ever.
"""

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from services.chassis.storage.session import Row, Session
from services.chassis.storage.statement import Statement
from services.kernel.ids import Ids
from services.kernel.money import Money
from services.payment.domain import Answer, Done, Kind, Refused, Standing
from services.payment.provider import Change, ProviderSilent
from services.payment.sandbox_tokens import TOKENS, Token
from services.payment.sandbox_webhooks import Post, Webhook

metadata = sa.MetaData()

authorizations = sa.Table(
    "authorizations",
    metadata,
    sa.Column("reference", sa.Text, primary_key=True),
    sa.Column("payment_id", sa.Text, nullable=False),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("held", sa.Boolean, nullable=False),
    sa.Column("captured_minor", sa.BigInteger, nullable=False),
    sa.Column("refunded_minor", sa.BigInteger, nullable=False),
    # Counts every movement in these books; where a comparison goes on from.
    sa.Column("change", sa.BigInteger, nullable=False, unique=True),
    sa.CheckConstraint("captured_minor <= amount_minor", name="no_more_than_was_held"),
    sa.CheckConstraint("refunded_minor <= captured_minor", name="no_more_than_was_taken"),
)

operations = sa.Table(
    "operations",
    metadata,
    sa.Column("idempotency_key", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("about", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("refusal", sa.Text, nullable=False),
)

CHANGES_MAX: Final = 50

LATE_CAPTURE: Final = "payment.captured_late"
_TYPES: Final = {
    Kind.AUTHORIZE: "payment.authorized",
    Kind.CAPTURE: "payment.captured",
    Kind.VOID: "payment.voided",
    Kind.REFUND: "payment.refunded",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operation is asked to do."""

    key: str
    kind: Kind
    about: str
    """The authorization, or the payment that one is asked for."""

    amount: Money


@dataclass(frozen=True, slots=True)
class Entered:
    """What the books say of a wish."""

    answer: Answer
    token: Token
    is_repeat: bool


class Books:
    """One transaction on them."""

    def __init__(self, session: Session, ids: Ids) -> None:
        self._session = session
        self._ids = ids
        self.post = Post(session)

    def authorize(self, wish: Wish, token: str) -> Entered:
        def decide() -> Answer:
            if code := _token(token).decline_code:
                return Refused(code)
            reference = f"sandbox_auth_{self._ids.new()}"
            self._session.run(
                _HOLD,
                reference=reference,
                payment_id=wish.about,
                token=token,
                amount_minor=wish.amount.amount_minor,
                currency=wish.amount.currency,
                held=True,
                captured_minor=0,
                refunded_minor=0,
                change=self._next_change(),
            )
            return Done(reference)

        return self._enter(wish, token, decide)

    def capture(self, wish: Wish) -> Entered:
        row = self._authorization(wish.about)

        def decide() -> Answer:
            if code := _token(row["token"]).capture_code:
                return Refused(code)
            if not row["held"]:
                return Refused("nothing_held")
            if wish.amount.amount_minor > row["amount_minor"]:
                return Refused("amount_too_large")
            self._move(row, held=False, captured_minor=wish.amount.amount_minor)
            return Done(f"sandbox_capture_{self._ids.new()}")

        return self._enter(wish, row["token"], decide)

    def void(self, wish: Wish) -> Entered:
        row = self._authorization(wish.about)

        def decide() -> Answer:
            if not row["held"]:
                return Refused("already_captured" if row["captured_minor"] else "already_voided")
            self._move(row, held=False)
            return Done(f"sandbox_void_{self._ids.new()}")

        return self._enter(wish, row["token"], decide)

    def refund(self, wish: Wish) -> Entered:
        row = self._authorization(wish.about)

        def decide() -> Answer:
            refunded_minor = row["refunded_minor"] + wish.amount.amount_minor
            if refunded_minor > row["captured_minor"]:
                return Refused("amount_too_large")
            self._move(row, refunded_minor=refunded_minor)
            return Done(f"sandbox_refund_{self._ids.new()}")

        return self._enter(wish, row["token"], decide)

    def standing(self, reference: str) -> Standing:
        return _standing(self._authorization(reference))

    def changes(self, after: int) -> list[Change]:
        rows = self._session.all(_CHANGES, after=after)
        return [Change(_standing(row), str(row["change"])) for row in rows]

    def catch_up(self, webhook: Webhook) -> None:
        """What a late capture tells happens now: the hold that was given up is captured all the same."""
        if webhook.type == LATE_CAPTURE:
            row = self._authorization(webhook.authorization)
            if not row["captured_minor"]:
                self._move(row, captured_minor=row["amount_minor"])

    def _enter(self, wish: Wish, token: str, decide: Any) -> Entered:
        row = self._session.one(_FIND, of_key=wish.key)
        if row is not None:
            _check_same(row, wish)
            return Entered(_answer(row), _token(token), is_repeat=True)
        answer: Answer = decide()
        reference, refusal = ("", answer.code) if isinstance(answer, Refused) else (answer.reference, "")
        self._session.run(
            _ENTER,
            idempotency_key=wish.key,
            kind=str(wish.kind),
            about=wish.about,
            amount_minor=wish.amount.amount_minor,
            currency=wish.amount.currency,
            reference=reference,
            refusal=refusal,
        )
        if isinstance(answer, Done):
            self._tell(wish, answer, _token(token))
        return Entered(answer, _token(token), is_repeat=False)

    def _tell(self, wish: Wish, done: Done, token: Token) -> None:
        about = done.reference if wish.kind is Kind.AUTHORIZE else wish.about
        types = [_TYPES[wish.kind]]
        if token.captures_late and wish.kind is Kind.VOID:
            types.append(LATE_CAPTURE)
        for type_ in types if token.webhooks else ():
            self.post.add(Webhook(f"sandbox_webhook_{self._ids.new()}", type_, about, token.webhooks))

    def _authorization(self, reference: str) -> Row:
        row = self._session.one(_AUTHORIZATION, of_reference=reference)
        if row is None:
            raise ProviderSilent(f"no authorization {reference}")  # "not found" is not an answer
        return row

    def _move(self, row: Row, **new: int) -> None:
        moved = {name: new.get(name, row[name]) for name in ("held", "captured_minor", "refunded_minor")}
        self._session.run(
            _MOVE,
            of_reference=row["reference"],
            new_change=self._next_change(),
            **{f"new_{name}": value for name, value in moved.items()},
        )

    def _next_change(self) -> int:
        row = self._session.one(_LAST_CHANGE)
        return (row["change"] if row else 0) + 1


def _token(token: str) -> Token:
    return TOKENS[token]


def _check_same(row: Row, wish: Wish) -> None:
    kept = (row["kind"], row["about"], row["amount_minor"], row["currency"])
    if kept != (wish.kind, wish.about, wish.amount.amount_minor, wish.amount.currency):
        raise ValueError(f"the key {wish.key} was used for something else")


def _answer(row: Row) -> Answer:
    return Refused(row["refusal"]) if row["refusal"] else Done(row["reference"])


def _standing(row: Row) -> Standing:
    currency = row["currency"]
    return Standing(
        reference=row["reference"],
        payment_id=row["payment_id"],
        held=bool(row["held"]),
        captured=Money(row["captured_minor"], currency),
        refunded=Money(row["refunded_minor"], currency),
    )


def _insert(table: sa.Table) -> Statement:
    return Statement(sa.insert(table).values({c.name: sa.bindparam(c.name) for c in table.columns}))


_HOLD: Final = _insert(authorizations)
_ENTER: Final = _insert(operations)
QUESTION: Final = Statement(sa.delete(authorizations).where(authorizations.c.reference == ""))
"""For readiness: of a row that is not there."""

_FIND: Final = Statement(sa.select(operations).where(operations.c.idempotency_key == sa.bindparam("of_key")))
_AUTHORIZATION: Final = Statement(
    sa.select(authorizations).where(authorizations.c.reference == sa.bindparam("of_reference"))
)
_MOVING: Final = ("held", "captured_minor", "refunded_minor", "change")
_MOVE: Final = Statement(
    sa.update(authorizations)
    .where(authorizations.c.reference == sa.bindparam("of_reference"))
    .values({name: sa.bindparam(f"new_{name}") for name in _MOVING})
)
_LAST_CHANGE: Final = Statement(
    sa.select(sa.func.coalesce(sa.func.max(authorizations.c.change), 0).label("change"))
)
_CHANGES: Final = Statement(
    sa.select(authorizations)
    .where(authorizations.c.change > sa.bindparam("after", type_=sa.BigInteger))
    .order_by(authorizations.c.change)
    .limit(CHANGES_MAX)
)
