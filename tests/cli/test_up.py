"""`bodega up` as people run it: a program, its output, its exit code, and what it leaves behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.cli.data_folder import SERVICES

READY_MAX_S = 90.0
END_MAX_S = 60.0
BODEGA = [sys.executable, "-P", "-m", "services.cli"]


def until(fact: Callable[[], Any], within_s: float, what: str) -> Any:
    give_up = time.monotonic() + within_s
    while not (found := fact()):
        assert time.monotonic() < give_up, what
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def processes_of(data: Path) -> list[int]:
    """Everything that runs and was started for this folder, by what their environment and arguments say."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        pid = int(process.name)
        if bytes(data) in known and pid != os.getpid() and alive(pid):
            found.append(pid)
    return found


@dataclass
class Running:
    """A `bodega up` that is running."""

    process: subprocess.Popen[bytes]
    data: Path
    output: Path

    @property
    def said(self) -> list[str]:
        return self.output.read_text().splitlines()

    @property
    def endpoints(self) -> Any:
        return json.loads((self.data / "endpoints.json").read_text())

    def until_ready(self) -> None:
        until(lambda: "ready" in self.said or self.process.poll() is not None, READY_MAX_S, str(self.said))
        assert self.process.poll() is None, self.said


@contextmanager
def up(data: Path, *options: str) -> Iterator[Running]:
    output = data.with_suffix(".out")
    command = [*BODEGA, "up", "--data", str(data), *(options or ("--gateway-port=0", "--grpc-port-base=0"))]
    with output.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield Running(process, data, output)
        finally:
            process.kill()


def refused(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """What a command says that ends with code 2: one line, nothing else."""
    done = subprocess.run(
        [*BODEGA, *arguments],
        capture_output=True,
        text=True,
        timeout=END_MAX_S,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    assert (done.returncode, done.stdout) == (2, ""), done
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with up(tmp_path_factory.mktemp("up") / "shop") as running:
        running.until_ready()
        yield running


def test_endpoints_say_where_everything_is(shop: Running) -> None:
    found = shop.endpoints
    assert sorted(found) == [
        *("certificates", "gateway", "gateway_operations", "gateway_pid", "nats", "nats_pid", "services")
    ]
    assert alive(found["gateway_pid"])
    assert alive(found["nats_pid"])
    assert list(found["services"]) == list(SERVICES)
    for name, service in found["services"].items():
        wanted = ["database", "grpc", "http", "mesh", "pid"] + (
            ["provider_database"] if name == "payment" else []
        )
        assert sorted(service) == sorted(wanted)
        assert alive(service["pid"])
        assert Path(service["database"]).exists()
        assert httpx.get(f"http://{service['http']}/health/ready").status_code == 200
    for edge in (found["gateway"], f"http://{found['gateway_operations']}"):
        assert httpx.get(f"{edge}/health/ready").status_code == 200


def test_everything_that_runs_is_shown(shop: Running) -> None:
    found = shop.endpoints
    for where in (found["gateway"], found["nats"], *(at["grpc"] for at in found["services"].values())):
        assert any(where in line for line in shop.said)


def test_mesh_ports_are_probed_with_a_certificate(shop: Running) -> None:
    target = shop.endpoints["services"]["order"]["mesh"]
    identity = str(Path(shop.endpoints["certificates"]) / "operator")
    for options, answer in (
        (["--identity", identity, "--workload", "order"], "SERVING"),
        (["--identity", identity, "--workload", "payment"], "UNAVAILABLE"),
        ([], "UNAVAILABLE"),
    ):
        command = [*BODEGA, "probe", target, *options, "--timeout", "10s"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=END_MAX_S, check=False)
        assert (done.stdout or done.stderr).splitlines()[0] == answer
        assert done.returncode == (0 if answer == "SERVING" else 1)


def test_services_can_be_probed(shop: Running) -> None:
    target = shop.endpoints["services"]["order"]["grpc"]
    command = [*BODEGA, "probe", target, "--service", "bodega.order.v1.OrderService", "--timeout", "10s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=END_MAX_S, check=False)
    assert (done.returncode, done.stdout) == (0, "SERVING\n")


def test_secrets_are_in_no_command_line(shop: Running) -> None:
    secrets = [file.read_bytes() for file in (shop.data / "secrets").iterdir()]
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(shop.data)]
    assert secrets
    assert lines
    assert not [line for line in lines for secret in secrets if secret in line]


def test_a_second_shop_on_the_folder_is_refused(shop: Running) -> None:
    assert refused("up", "--data", str(shop.data)) == f"bodega: a shop is already running on {shop.data}"
    assert shop.process.poll() is None


def test_a_service_that_is_killed_comes_back_and_endpoints_follow(shop: Running) -> None:
    before = shop.endpoints["services"]["inventory"]["pid"]
    os.kill(before, signal.SIGKILL)
    after = until(
        lambda: (pid := shop.endpoints["services"]["inventory"]["pid"]) != before and pid,
        READY_MAX_S,
        "inventory is not restarted",
    )
    assert alive(after)
    assert "inventory died killed by SIGKILL" in shop.said


def test_killed_or_asked_to_stop_it_leaves_nothing_behind(tmp_path: Path) -> None:
    """In one test, since a start takes seconds: killed, started again on what is left, asked to stop."""
    with up(tmp_path / "shop") as shop:
        shop.until_ready()
        assert len(processes_of(shop.data)) == len(SERVICES) + 3
        shop.process.kill()
        until(lambda: not processes_of(shop.data), END_MAX_S, "processes are left behind")
        assert shop.endpoints  # which nobody believes any more
        assert "no shop is running" in refused("demo", "--data", str(shop.data))
    with up(tmp_path / "shop") as again:
        again.until_ready()
        again.process.send_signal(signal.SIGTERM)
        assert again.process.wait(END_MAX_S) == 0
        assert again.said[-1] == "stopped"
        assert processes_of(again.data) == []
        assert not (again.data / "endpoints.json").exists()


def test_asked_to_stop_while_it_starts_it_stops(tmp_path: Path) -> None:
    with up(tmp_path / "shop") as shop:
        until(lambda: processes_of(shop.data)[1:], READY_MAX_S, "nothing was started")
        shop.process.send_signal(signal.SIGINT)
        shop.process.wait(END_MAX_S)
        assert processes_of(shop.data) == []


@pytest.mark.parametrize(("option", "program"), [("--gateway-port", "gateway"), ("--grpc-port-base", "user")])
def test_a_port_in_use_is_refused(tmp_path: Path, option: str, program: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # Others free: a shop may be running here on the usual ones. Of an option given twice the last counts.
        options = ("--gateway-port=0", "--grpc-port-base=0", f"{option}={port}")
        line = refused("up", "--data", str(tmp_path / "shop"), *options)
    assert line == f"bodega: port {port}, wanted for {program}, is in use; choose another with {option}"
    assert processes_of(tmp_path / "shop") == []


def test_replicas_on_files_are_refused(tmp_path: Path) -> None:
    line = refused("up", "--data", str(tmp_path / "shop"), "--replicas", "order=2,inventory=2")
    assert line == (
        "bodega: several of inventory, order want --database postgresql://…:"
        " a SQLite file has one process that writes"
    )
    assert processes_of(tmp_path / "shop") == []


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refused("up", "--data", str(tmp_path / "file"))
    assert line == f"bodega: {tmp_path / 'file'} cannot be the data folder: File exists"


def test_a_missing_broker_is_refused(tmp_path: Path) -> None:
    line = refused(
        *("up", "--data", str(tmp_path / "shop"), "--gateway-port=0", "--grpc-port-base=0"),
        environment={"BODEGA_NATS_SERVER": "/nowhere/nats-server"},
    )
    assert "/nowhere/nats-server" in line
    assert processes_of(tmp_path / "shop") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--gateway-port", "http"),
        ("up", "--gateway-port", "70000"),
        ("up", "--no-such-option"),
        ("up", "--replicas", "order"),
        ("up", "--replicas", "order=0"),
        ("up", "--replicas", "gateway=2"),
        ("verify", "--settle", "soon"),
        ("probe",),
        ("no-such-command",),
    ],
)
def test_arguments_that_make_no_sense_are_refused_in_one_line(arguments: tuple[str, ...]) -> None:
    assert refused(*arguments).startswith("bodega: ")


@pytest.mark.parametrize("command", ["demo", "verify"])
def test_commands_for_a_shop_need_one(tmp_path: Path, command: str) -> None:
    assert "no shop" in refused(command, "--data", str(tmp_path / "nowhere"))


def test_probing_what_is_not_there_fails() -> None:
    done = subprocess.run(
        [*BODEGA, "probe", "127.0.0.1:1"], capture_output=True, check=False, timeout=END_MAX_S
    )
    assert (done.returncode, done.stderr) == (1, b"UNAVAILABLE\n")


def test_help_is_quick_to_import() -> None:
    """What is heavy is imported when it is needed."""
    code = "import sys, services.cli.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"grpc", "sqlalchemy", "httpx", "nats", "google.protobuf"} & set(done.stdout.split())
