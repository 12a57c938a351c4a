"""Activation tokens, and who else can run the shop."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "activations",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
        sa.Column("issue_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
    )
    op.create_index("ix_activations_issue_time", "activations", ["issue_time"])
    op.create_index(
        "users_staff",
        "users",
        ["user_id"],
        sqlite_where=sa.text("roles <> 'CUSTOMER'"),
        postgresql_where=sa.text("roles <> 'CUSTOMER'"),
    )
