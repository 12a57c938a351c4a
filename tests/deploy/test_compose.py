"""deploy/compose.yaml against the programs it starts; no Docker needed."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from typer.main import get_command

from gateway import app as edge
from gateway.backends import Backends
from services.chassis.config import load
from services.chassis.flags import file_of
from services.chassis.identity.workload import workload_serving
from services.chassis.tls import TlsFiles
from services.cli import contracts, endpoints, flags
from services.cli.__main__ import app as command_line
from services.cli.certificates import WORKLOADS
from services.cli.data_folder import SERVICES, DataFolder
from services.cli.run import MODULES
from tests.deploy.compose import CERTIFICATES, DEPLOY, KINDS, ROOT, composed, mounts, option, ours, services
from tests.deploy.prepared import prepared

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="session", params=DATABASES)
def secrets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("shop"), request.param)


def told(name: str, secrets: Path, tmp_path: Path) -> Any:
    """A service's settings, from the variables and exactly those secrets that its container is given."""
    container = services()[name]
    for secret in container["secrets"]:
        (tmp_path / secret).write_bytes((secrets / secret).read_bytes())
    environment = {**container["environment"], "BODEGA_SECRETS_DIR": str(tmp_path)}
    return load(KINDS[name], name, environment)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_told_what_it_needs_for_production(name: str, secrets: Path, tmp_path: Path) -> None:
    settings = told(name, secrets, tmp_path)  # which refuses what is unknown, wrong, missing or built in
    assert settings.production
    assert settings.database_url
    assert not settings.guests_plaintext
    assert settings.tls == TlsFiles(
        certificate=Path(CERTIFICATES, "certificate.pem"), authorities=Path(CERTIFICATES, "authorities.pem")
    )
    assert bool(settings.identity.keys_target) == (name != "user")


def test_the_flags_that_are_mounted_are_all_there_are_and_say_the_defaults() -> None:
    assert (ROOT / "deploy" / "flags" / "flags.json").read_text(encoding="utf-8") == file_of(flags.ALL)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_its_own_variables_and_secrets_and_nobody_elses(name: str) -> None:
    container = services()[name]
    variables = set(container["environment"]) - {"BODEGA_SECRETS_DIR"}
    assert container["environment"]["BODEGA_SECRETS_DIR"] == "/run/secrets"
    assert {variable.partition("__")[0] for variable in variables} == {f"BODEGA_{name}".upper()}
    assert {secret.partition("__")[0] for secret in container["secrets"]} == {f"bodega_{name}"}


@pytest.mark.parametrize("name", [*SERVICES, "gateway", "nats"])
def test_a_program_has_its_own_certificate_and_nobody_elses(name: str) -> None:
    certificates = [mount for mount in mounts(name) if mount[0].startswith("certificates-")]
    assert certificates == [(f"certificates-{name}", CERTIFICATES, False)]


def test_neighbours_are_called_where_they_listen_for_workloads(secrets: Path, tmp_path: Path) -> None:
    for number, name in enumerate(SERVICES):
        folder = tmp_path / str(number)
        folder.mkdir()
        settings = told(name, secrets, folder)
        targets = {
            field.removesuffix("_target"): target
            for field, target in settings.model_dump().items()
            if field.endswith("_target")
        }
        if name != "user":
            targets["user"] = settings.identity.keys_target
        for neighbour, target in targets.items():
            assert target == mesh(neighbour), (name, neighbour)
        assert settings.nats_url == f"nats://nats:{option('nats', 'port')[0]}"


def mesh(name: str) -> str:
    return f"{name}:{services()[name]['environment'][f'BODEGA_{name}__MESH_PORT'.upper()]}"


def test_ports_are_published_for_guests_alone() -> None:
    published = {name: one["ports"] for name, one in services().items() if "ports" in one}
    guests = {name: services()[name]["environment"][f"BODEGA_{name}__GRPC_PORT".upper()] for name in SERVICES}
    [edge_port] = option("gateway", "port")
    assert published == {
        # How often one may ask is counted at the edge: beyond this machine these would be a way around it.
        **{name: [f"127.0.0.1:{port}:{port}"] for name, port in guests.items()},
        # Plain HTTP: for a proxy on this machine, which does TLS.
        "gateway": [f"127.0.0.1:{edge_port}:{edge_port}"],
    }


def test_the_edge_knows_every_service_and_finds_it_on_its_mesh_port() -> None:
    backends = option("gateway", "backend")
    files = FileDescriptorSet.FromString(contracts.descriptor_set())
    assert edge.build(files, backends)  # which refuses what lacks a backend, or has one too many
    for service, target in Backends.parse(backends).by_service.items():
        assert target == mesh(workload_serving(service))


def test_the_edge_is_in_production_with_access_and_an_identity() -> None:
    command = services()["gateway"]["command"]
    assert {"--production", "--access"} <= set(command)
    assert option("gateway", "mesh-certificate") == [f"{CERTIFICATES}/certificate.pem"]
    assert option("gateway", "mesh-authorities") == [f"{CERTIFICATES}/authorities.pem"]
    assert "--backend-plaintext" not in command


@pytest.mark.parametrize("name", ours())
def test_every_role_is_a_command_that_takes_these_arguments(name: str) -> None:
    command = services()[name]["command"]
    if command == ["--help"]:
        return
    role, *arguments = command
    found = get_command(command_line).commands[role]  # type: ignore[attr-defined]  # a group
    parsed = found.make_context(role, list(arguments))
    if role == "run":
        assert parsed.params["program"] == name
        assert name in MODULES


@pytest.mark.parametrize("name", [*SERVICES, "gateway", "nats"])
def test_health_is_asked_by_the_probe_where_the_program_listens(name: str) -> None:
    kind, program, command, target, *options = services()[name]["healthcheck"]["test"]
    assert (kind, program, command) == ("CMD", "bodega", "probe")
    get_command(command_line).commands["probe"].make_context("probe", [target, *options])  # type: ignore[attr-defined]
    if name in SERVICES:
        assert target == mesh(name).replace(name, "127.0.0.1")
        assert options == [f"--identity={CERTIFICATES}", f"--workload={name}"]
    elif name == "gateway":
        assert target == f"http://127.0.0.1:{option('gateway', 'port')[0]}/health/ready"
    else:
        assert target == f"nats://127.0.0.1:{option('nats', 'port')[0]}"


def test_every_container_is_hardened_and_bounded() -> None:
    for name, one in services().items():
        assert one["user"] == "999:999", name
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"\d+[mg]", one["mem_limit"]), name
        assert one["restart"] in ("unless-stopped", "no"), name
        assert one["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & one.keys(), name
        assert one.get("network_mode", "none") == "none", name


def test_what_runs_on_is_started_again_and_what_ends_is_not() -> None:
    once = {name for name, one in services().items() if one["restart"] == "no"}
    assert once == {"certificates", "migrate", "operator"}


def test_every_image_names_its_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {one["image"] for one in services().values()}
    assert f"bodega:{version}" in images
    for image in images:
        assert re.fullmatch(r"[a-z/]+:\d[\w.-]*", image), image


def test_no_password_stands_in_the_file() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    for name, one in services().items():
        for variable, value in one.get("environment", {}).items():
            secret_like = re.search("SECRET|PASSWORD|TOKEN|DATABASE_URL", variable)
            assert not secret_like or str(value).startswith("/run/secrets"), (name, variable)
    assert not re.search(r"://[^\s/:]+:[^\s/]+@", text)


def test_every_secret_is_a_file_that_prepare_makes_and_somebody_reads(secrets: Path) -> None:
    declared = composed()["secrets"]
    assert declared == {name: {"file": f"./secrets/{name}"} for name in declared}
    assert set(declared) == {file.name for file in secrets.iterdir()}
    assert set(declared) == {secret for one in services().values() for secret in one.get("secrets", ())}


def test_what_is_mounted_is_a_volume_or_a_file_of_this_folder() -> None:
    named = set()
    for name in services():
        for source, place, writes in mounts(name):
            assert place.startswith("/"), (name, place)
            if source.startswith("."):
                assert (DEPLOY / source).resolve().is_relative_to(DEPLOY)
                assert (DEPLOY / source).exists(), source
                assert not writes, source
            else:
                named.add(source)
    assert named == set(composed()["volumes"])


def test_the_authority_signs_in_one_place_and_every_workload_has_a_volume() -> None:
    given = {(source, place) for source, place, _ in mounts("certificates")}
    assert given == {
        (f"certificates-{name}", f"/var/lib/bodega/certificates/{name}") for name in ("authority", *WORKLOADS)
    }
    assert list(mounts("renewal")) == list(mounts("certificates"))
    readers = {
        name for name in services() for source, *_ in mounts(name) if source == "certificates-authority"
    }
    assert readers == {"certificates", "renewal"}


def test_the_broker_and_the_databases_are_reached_from_inside_alone() -> None:
    assert composed()["networks"]["inside"] == {"internal": True}
    for name in ("nats", "postgres", "migrate", "certificates", "renewal", "operator"):
        assert list(services()[name]["networks"]) == ["inside"], name
        assert "ports" not in services()[name], name


def test_nobody_waits_for_what_is_not_there() -> None:
    for name, one in services().items():
        for other, how in one.get("depends_on", {}).items():
            assert other in services(), name
            outside_profile = services()[other].get("profiles", []) in ([], one.get("profiles"))
            assert outside_profile or how["required"] is False, (name, other)
            if how["condition"] == "service_completed_successfully":
                assert services()[other]["restart"] == "no"
            else:
                assert "healthcheck" in services()[other]


def test_every_database_is_migrated_before_a_service_starts() -> None:
    assert option("migrate", "service") == list(SERVICES)
    assert services()["migrate"]["secrets"] == [f"bodega_{name}__database_url" for name in SERVICES]
    for name in SERVICES:
        assert "migrate" in services()[name]["depends_on"]
        database = (f"database-{name}", f"/var/lib/bodega/databases/{name}", True)
        assert database in list(mounts(name))
        assert database in list(mounts("migrate"))


def test_the_operator_finds_every_program(tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_bytes((DEPLOY / "operator" / "endpoints.json").read_bytes())
    shop = endpoints.read(DataFolder(tmp_path))
    for name in SERVICES:
        environment = services()[name]["environment"]
        prefix = f"BODEGA_{name}__".upper()
        assert shop.services[name].mesh == mesh(name)
        assert shop.services[name].grpc == f"{name}:{environment[f'{prefix}GRPC_PORT']}"
        assert shop.services[name].http == f"{name}:{environment[f'{prefix}OPERATIONS_PORT']}"
    assert shop.nats == f"nats://nats:{option('nats', 'port')[0]}"
    assert shop.gateway == f"http://gateway:{option('gateway', 'port')[0]}"
    assert shop.gateway_operations == f"gateway:{option('gateway', 'operations-port')[0]}"
    assert ("certificates-operator", f"{shop.certificates}/operator", False) in list(mounts("operator"))
