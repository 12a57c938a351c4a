"""Payments are listed, newest first: of one user, or of all."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("payments_by_user", "payments", ["user_id", "create_time", "order_id"], unique=False)
    op.create_index("payments_by_time", "payments", ["create_time", "order_id"], unique=False)
