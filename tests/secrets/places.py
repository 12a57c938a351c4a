"""Everything that leaves the processes of a shop, or stays behind them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import httpx
import sqlalchemy as sa

from services.cli.data_folder import DataFolder, sqlite_url
from services.cli.endpoints import Endpoints
from services.cli.shop import Shop
from tests.collector import Collector
from tests.secrets.doors import Said
from tests.secrets.seeds import CARD, EMAIL, NAME, PASSWORD_HASH, PHONE

TAIL_MAX_S: Final = 60.0

HOMES: Final = {
    "user.users.email": {EMAIL},
    "user.users.email_key": {EMAIL},
    "user.users.display_name": {NAME},
    "user.users.phone_number": {PHONE},
    "user.users.password_hash": {PASSWORD_HASH},
    "payment.payment_methods.provider_token": {CARD},
    "sandbox_provider.authorizations.token": {CARD},  # the provider's own books
}
"""Where a secret may stand: the columns that are there to hold it."""


async def everywhere(shop: Shop) -> AsyncIterator[Said]:
    """All there is to search. Events are followed up to the last that the story makes."""
    folder, at = shop.folder, shop.endpoints
    yield await _tail(folder, b"UserDeactivated")
    yield await _trail(folder)
    async for found in _operations(at, shop.gateway_operations):
        yield found
    for found in (*_processes(at), *_files(folder), *_tables(folder)):
        yield found


def exported(collector: Collector) -> Iterator[Said]:
    """Spans, as programs sent them. Complete when those have ended."""
    for request in collector.raw:
        yield Said("exported spans", request.SerializeToString())


def given_secrets(folder: DataFolder) -> dict[str, str]:
    """What the programs of a shop were given to keep, by the name of its file."""
    return {path.name: path.read_text().strip() for path in folder.secrets.iterdir()}


def _files(folder: DataFolder) -> Iterator[Said]:
    """Logs, streams as the broker keeps them (headers and bodies in clear), and what others may read."""
    logs = sorted(folder.logs.iterdir())
    streams = sorted(path for path in folder.nats.rglob("*") if path.is_file())
    for path in (*logs, *streams, folder.endpoints, folder.descriptor_set):
        yield Said(f"file {path.relative_to(folder.path)}", path.read_bytes())


def _tables(folder: DataFolder) -> Iterator[Said]:
    """Every column of every table."""
    databases = {**folder.databases, "sandbox_provider": folder.provider_database}
    for name, path in databases.items():
        engine = sa.create_engine(sqlite_url(path))
        metadata = sa.MetaData()
        with engine.connect() as connection:
            metadata.reflect(connection)
            for table in metadata.tables.values():
                rows = connection.execute(sa.select(sa.text("*")).select_from(table)).mappings().all()
                for column in (found.name for found in table.columns):
                    values = (row[column] for row in rows)
                    yield Said(f"{name}.{table.name}.{column}", b"\n".join(map(_as_bytes, values)))
        engine.dispose()


async def _operations(shop: Endpoints, gateway: str) -> AsyncIterator[Said]:
    """What probes and Prometheus get."""
    places = {"gateway": gateway, **{name: service.http for name, service in shop.services.items()}}
    async with httpx.AsyncClient(timeout=30) as http:
        for name, at in places.items():
            for what in ("metrics", "health/ready"):
                yield Said(f"{what} of {name}", (await http.get(f"http://{at}/{what}")).content)


def _processes(shop: Endpoints) -> Iterator[Said]:
    """Command lines, which everyone may read, and environments."""
    pids = {name: service.pid for name, service in shop.services.items()}
    for name, pid in {**pids, "gateway": shop.gateway_pid, "nats": shop.nats_pid}.items():
        for what in ("cmdline", "environ"):
            yield Said(f"{what} of {name}", Path(f"/proc/{pid}/{what}").read_bytes())


async def _tail(folder: DataFolder, until: bytes) -> Said:
    """What `bodega events tail` shows of the last hour, up to a line that has these words."""
    command = ("-m", "services.cli", "events", "tail", f"--data={folder.path}", "--since=60m")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    shown = b""
    try:
        async with asyncio.timeout(TAIL_MAX_S):
            while until not in shown:
                line = await process.stdout.readline()
                assert line, shown.decode()
                shown += line
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = await process.communicate()
    return Said("bodega events tail", shown + rest)


async def _trail(folder: DataFolder) -> Said:
    """What `bodega audit show` shows."""
    command = ("-m", "services.cli", "audit", "show", f"--data={folder.path}", "--json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(TAIL_MAX_S):
        shown, _ = await process.communicate()
    return Said("bodega audit show", shown)


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else os.fsencode(str(value))
