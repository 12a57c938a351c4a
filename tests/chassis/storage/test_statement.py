"""SQL compiled once."""

import contextlib
from datetime import datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.chassis.storage.statement import Statement, insert
from tests.chassis.storage.notebook import Notes, Transaction, notes

BY_IDS = Statement(
    sa.select(notes.c.id)
    .where(notes.c.id.in_(sa.bindparam("ids", expanding=True)), notes.c.text == "found")
    .order_by(notes.c.id)
    .limit(sa.bindparam("rows_max", type_=sa.Integer))
)
PUT = Statement(
    (adding := insert(notes).values(id=sa.bindparam("id"), text=sa.bindparam("text"))).on_conflict_do_update(
        index_elements=["id"], set_={"text": adding.excluded.text}
    )
)
ALL = Statement(sa.select(notes))


async def test_lists_and_literals_are_bound(store: Notes) -> None:
    def fn(tx: Transaction) -> list[str]:
        for note_id in "abcd":
            tx.add(note_id, "other" if note_id == "b" else "found")
        return [row["id"] for row in tx.session.all(BY_IDS, ids=["a", "b", "c", "x"], rows_max=5)]

    assert await store.write(fn) == ["a", "c"]
    assert await store.read(lambda tx: tx.session.all(BY_IDS, ids=[], rows_max=5)) == []
    assert len(await store.read(lambda tx: tx.session.all(BY_IDS, ids=["a", "d"], rows_max=1))) == 1


async def test_an_insert_can_put_in_place_of_what_is_there(store: Notes) -> None:
    await store.write(lambda tx: tx.session.run(PUT, id="a", text="one"))
    await store.write(lambda tx: tx.session.run(PUT, id="a", text="two"))

    assert await store.read(lambda tx: tx.text("a")) == "two"


async def test_many_rows_go_in_one_call(store: Notes) -> None:
    await store.write(lambda tx: tx.session.many(PUT, [{"id": str(n), "text": ""} for n in range(10)]))
    await store.write(lambda tx: tx.session.many(PUT, []))

    assert await store.read(lambda tx: tx.count()) == 10


async def test_one_row_is_one_row(store: Notes) -> None:
    await store.write(lambda tx: tx.session.many(PUT, [{"id": str(n), "text": ""} for n in range(2)]))

    with pytest.raises(ValueError, match="more than one"):
        await store.read(lambda tx: tx.session.one(ALL))


@pytest.mark.parametrize("params", [{}, {"id": "a"}, {"id": "a", "text": "b", "txet": "c"}])
async def test_parameters_too_few_or_too_many_are_a_bug(store: Notes, params: dict[str, str]) -> None:
    with pytest.raises(TypeError, match="parameters"):
        await store.write(lambda tx: tx.session.run(PUT, **params))


async def test_types_that_core_would_convert_are_refused(store: Notes) -> None:
    late = Statement(sa.select(notes.c.id).where(sa.literal(datetime(2026, 1, 1)) == sa.bindparam("x")))  # noqa: DTZ001

    with pytest.raises(TypeError, match="not a type the driver takes"):
        await store.read(lambda tx: tx.session.all(late, x=1))


def test_the_same_statements_compile_for_postgresql() -> None:
    dialect = postgresql.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]

    sql, _ = PUT.bound(dialect, {"id": "a", "text": "b"})
    assert "ON CONFLICT (id) DO UPDATE SET text = excluded.text" in sql


async def test_a_savepoint_undoes_only_itself(store: Notes) -> None:
    def fn(tx: Transaction) -> None:
        tx.add("before")
        with contextlib.suppress(ValueError), tx.session.savepoint():
            tx.add("inside")
            raise ValueError
        with tx.session.savepoint():
            tx.add("kept")

    await store.write(fn)
    assert await store.read(lambda tx: (tx.text("before"), tx.text("inside"), tx.text("kept"))) == (
        "",
        None,
        "",
    )
