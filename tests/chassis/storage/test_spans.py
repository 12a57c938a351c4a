"""Transactions and statements as spans: what was run, never with what."""

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from services.chassis import context, tracing
from services.chassis.context import RequestContext, TraceContext
from services.chassis.storage.idempotency import Call
from services.chassis.storage.spans import summary
from services.chassis.tracing import Kind, Span
from services.kernel import errors
from tests.chassis.playground import Pong
from tests.chassis.storage.notebook import Notes, Transaction, notes

AT_HAND = TraceContext.fresh().sampled(is_it=True)


class NoteRefused(errors.WrongState):
    """Note {note_id} is refused."""


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    with tracing.captured() as spans:
        yield spans


@pytest.fixture
def request_at_hand() -> Iterator[None]:
    with context.working_on(RequestContext(AT_HAND)):
        yield


def write(tx: Transaction) -> None:
    tx.add("secret-id", "secret-text")


def test_what_a_statement_does_is_read_from_its_beginning() -> None:
    assert summary("INSERT INTO notes (id) VALUES (?) ON CONFLICT DO UPDATE SET id = ?") == (
        "INSERT",
        "notes",
    )
    assert summary("SELECT a.id \nFROM a JOIN b ON a.id = b.id") == ("SELECT", "a")
    assert summary('UPDATE "order" SET id=?') == ("UPDATE", "order")
    assert summary("DELETE FROM notes WHERE id = ?") == ("DELETE", "notes")
    assert summary("PRAGMA optimize") == ("PRAGMA", "")
    assert summary("") == ("", "")


async def test_a_transaction_and_its_statements(
    store: Notes, spans: list[Span], request_at_hand: None
) -> None:
    await store.write(write)
    assert await store.read(lambda tx: tx.text("secret-id")) == "secret-text"
    await store.fetch(sa.select(notes.c.id).where(notes.c.text == "secret-text"))
    wrote, read = (next(span for span in spans if span.name == f"store.{name}") for name in ("write", "read"))
    assert wrote.parent_id == read.parent_id == AT_HAND.span_id
    statements = {span.parent_id: span for span in spans if span.kind is Kind.CLIENT}
    assert [
        statements[place].name for place in (wrote.trace.span_id, read.trace.span_id, AT_HAND.span_id)
    ] == [
        "INSERT notes",
        "SELECT notes",
        "SELECT notes",
    ]
    insert = statements[wrote.trace.span_id]
    assert insert.attributes["db.operation.name"] == "INSERT"
    assert insert.attributes["db.collection.name"] == "notes"
    assert insert.attributes["db.system.name"] in ("sqlite", "postgresql")
    assert str(insert.attributes["db.query.text"]).startswith("INSERT INTO notes")
    assert wrote.begun_ns <= insert.begun_ns <= insert.ended_ns <= wrote.ended_ns
    assert "secret" not in repr(spans)
    assert {span.trace.trace_id for span in spans} == {AT_HAND.trace_id}


async def test_others_in_the_same_commit_have_no_spans(store: Notes, spans: list[Span]) -> None:
    async def one(number: int) -> None:
        trace = TraceContext.fresh().sampled(is_it=number == 7)
        with context.working_on(RequestContext(trace)):
            await store.write(lambda tx: tx.add(f"note-{number}"))

    await asyncio.gather(*(one(number) for number in range(20)))
    assert sorted(span.name for span in spans) == ["INSERT notes", "store.write"]


async def test_without_a_sampled_request_there_are_none(store: Notes, spans: list[Span]) -> None:
    await store.write(write)
    with context.working_on(RequestContext(TraceContext.fresh())):
        await store.read(lambda tx: tx.text("secret-id"))
        await store.fetch(sa.select(notes.c.id))
    assert spans == []


async def test_a_call_that_is_done_once_looks_does_and_remembers(
    store: Notes, spans: list[Span], request_at_hand: None
) -> None:
    def fn(tx: Transaction) -> Pong:
        write(tx)
        return Pong()

    await store.once(Call("scope", "secret-request", b"secret"), fn)
    assert await store.recall(Call("scope", "secret-request", b"secret"), Pong) == Pong()
    assert [span.name for span in spans] == [
        "SELECT remembered_calls",
        "INSERT notes",
        "INSERT remembered_calls",
        "store.once",
        "SELECT remembered_calls",
        "store.recall",
    ]
    assert "secret" not in repr(spans)


async def test_a_refusal_is_no_error_and_an_error_says_only_its_kind(
    store: Notes, spans: list[Span], request_at_hand: None
) -> None:
    def refuse(_tx: Transaction) -> None:
        raise NoteRefused(note_id="secret-id")

    def break_(tx: Transaction) -> None:
        write(tx)
        write(tx)

    with pytest.raises(NoteRefused):
        await store.write(refuse)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.write(break_)
    refused, broken = (span for span in spans if span.name == "store.write")
    assert refused.error == ""
    assert broken.error in ("IntegrityError", "UniqueViolation")
    assert "secret" not in repr(spans)
