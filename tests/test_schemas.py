"""A service and the schema of its database: it serves with the one its code is written for."""

import importlib
import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
from alembic.script import ScriptDirectory
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from services import user
from services.chassis.app import App
from services.chassis.health import State
from services.chassis.storage.migrations import migrate
from services.chassis.storage.schema import NEWER, Schema
from services.chassis.testing import until
from services.cli.data_folder import SERVICES
from tests.databases import Databases, damage
from tests.test_settings import settings_of

SERVICES_FOLDER = Path(user.__path__[0]).parent


def migrations_of(service: str) -> Path:
    return SERVICES_FOLDER / service / "migrations"


def schema_of(service: str) -> Schema:
    return Schema.beside(str(SERVICES_FOLDER / service / "__main__.py"))


def migrate_as_the_last_release(url: str, service: str, folder: Path) -> None:
    """With all but the newest migration."""
    older = shutil.copytree(migrations_of(service), folder / "older", ignore=lambda *_: ["__pycache__"])
    next(older.glob(f"versions/{schema_of(service).newest}_*.py")).unlink()
    migrate(url, older)


async def shown(server: App) -> tuple[int, str]:
    """What a prober of gRPC health sees, and what is told about the database."""
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        stub: Any = HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
    (problem,) = (found.problem for found in server.health.found if found.name == "database")
    return answer.status, problem


@pytest.mark.parametrize("service", SERVICES)
def test_the_names_of_migrations_say_which_is_the_newest(service: str) -> None:
    scripts = ScriptDirectory(str(migrations_of(service)))
    assert schema_of(service).newest == scripts.get_current_head()
    assert schema_of(service).known == {script.revision for script in scripts.walk_revisions()}


@pytest.mark.parametrize("service", SERVICES)
async def test_until_its_database_is_migrated_a_service_is_not_ready_and_then_by_itself(
    service: str, databases: Databases, tmp_path: Path
) -> None:
    url = databases.new(service)
    migrate_as_the_last_release(url, service, tmp_path)
    told: dict[str, Any] = {
        "service": service,
        "guests_plaintext": True,
        "database_url": url,
        "nats_url": "nats://127.0.0.1:1",
    }
    if service == "payment":
        told["provider_database_url"] = databases.new("provider")
    program = importlib.import_module(f"services.{service}.__main__")
    async with program.assembled(settings_of(service)(**told)) as server, server.running():
        assert server.health.state is State.STARTING
        assert await shown(server) == (HealthCheckResponse.NOT_SERVING, "StorageOutdated")
        migrate(url, migrations_of(service))
        await until(lambda: server.health.state is State.DEGRADED)  # the broker is away
        assert await shown(server) == (HealthCheckResponse.SERVING, "")
        damage(url, "UPDATE alembic_version SET version_num = '9999'")
        await until(lambda: any(found.problem == NEWER for found in server.health.found))
        assert await shown(server) == (HealthCheckResponse.SERVING, NEWER)
