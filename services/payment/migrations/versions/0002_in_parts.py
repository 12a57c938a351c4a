"""Refunds in part, and payments that are captured as soon as they are authorized."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("payments") as payments:
        payments.add_column(sa.Column("direct", sa.Boolean(), nullable=False, server_default=sa.false()))
        payments.drop_constraint("state_is_known", type_="check")
        payments.create_check_constraint(
            "state_is_known",
            "state IN ('UNKNOWN', 'AUTHORIZED', 'CAPTURED', 'REFUNDED', 'PARTIALLY_REFUNDED', "
            "'DECLINED', 'VOIDED')",
        )
