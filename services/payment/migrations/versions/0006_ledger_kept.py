"""PostgreSQL keeps the ledger from being rewritten, as SQLite has done from the beginning."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(
        """
        CREATE FUNCTION ledger_lines_is_only_added_to() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE integrity_constraint_violation USING MESSAGE = 'the ledger is only added to';
        END $$
        """
    )
    for name, deeds in (("kept", "UPDATE OR DELETE"), ("not_emptied", "TRUNCATE")):
        op.execute(
            f"CREATE TRIGGER ledger_lines_is_{name} BEFORE {deeds} ON ledger_lines "
            "FOR EACH STATEMENT EXECUTE FUNCTION ledger_lines_is_only_added_to()"
        )
