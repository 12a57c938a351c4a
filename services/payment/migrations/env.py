"""Alembic's entry: which tables these migrations lead to."""

from services.chassis.storage.migrations import run_migrations
from services.payment.tables import metadata

run_migrations(metadata)
