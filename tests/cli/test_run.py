"""`bodega run`, `bodega describe` and `bodega migrate --service`, as an image's roles are typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from services.cli import run
from services.cli.data_folder import SERVICES
from services.cli.refusal import Refused

BODEGA = (sys.executable, "-m", "services.cli")
END_MAX_S = 60.0


def bodega(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BODEGA, *arguments],
        capture_output=True,
        text=True,
        timeout=END_MAX_S,
        check=False,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_becomes_the_process(name: str) -> None:
    assert run.command(name)[1:] == ["-P", "-m", f"services.{name}"]


def test_what_stands_behind_the_program_is_the_programs() -> None:
    told = bodega("run", "gateway", "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert "--descriptor-set" in told.stdout


def test_settings_that_are_wrong_end_it_as_they_end_the_program() -> None:
    refused = bodega("run", "order", BODEGA_ORDER__PRODUCTION="true", BODEGA_ORDER__GRPC_PROT="1")
    assert refused.returncode == 2
    assert "BODEGA_ORDER__GRPC_PROT: there is no such setting" in refused.stderr


def test_an_unknown_program_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match=r"'shop'.*order.*gateway"):
        run.command("shop")


def test_the_contracts_are_written_for_the_edge(tmp_path: Path) -> None:
    done = bodega("describe", str(tmp_path / "api.binpb"))
    assert (done.returncode, done.stderr) == (0, "")
    files = FileDescriptorSet.FromString((tmp_path / "api.binpb").read_bytes()).file
    assert {"bodega.order.v1", "google.rpc"} <= {file.package for file in files}


def test_a_database_is_migrated_where_the_secret_says_that_it_is(tmp_path: Path) -> None:
    (tmp_path / "bodega_order__database_url").write_text(f"sqlite:///{tmp_path / 'order.db'}\n")
    done = bodega("migrate", "--service", "order", BODEGA_SECRETS_DIR=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "order: up to date\n", "")
    assert (tmp_path / "order.db").stat().st_size


@pytest.mark.parametrize(
    ("name", "said"), [("order", "BODEGA_ORDER__DATABASE_URL"), ("shop", "there is no service")]
)
def test_a_database_that_nobody_named_is_not_migrated(tmp_path: Path, name: str, said: str) -> None:
    refused = bodega("migrate", "--service", name, BODEGA_SECRETS_DIR=str(tmp_path))
    assert refused.returncode == 2
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
