"""Alembic's way in."""

from services.chassis.storage.migrations import run_migrations
from services.order.tables import metadata

run_migrations(metadata)
