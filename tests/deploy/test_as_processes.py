"""The shop of compose.yaml, started without Docker: its arguments, variables, secrets and certificates.

Only addresses are others: free ports of this machine, and folders of the test's.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from services.cli import ports
from services.cli.data_folder import SERVICES
from tests.deploy.compose import CERTIFICATES, DEPLOY, services
from tests.deploy.prepared import prepared

BODEGA = (sys.executable, "-m", "services.cli")
RUNNING = ("nats", *SERVICES, "gateway")
END_MAX_S = 60.0
READY_MAX_S = 90.0
AGAIN_S = 0.5
PASSWORD = "correct horse battery staple"


class Host:
    """One machine in the place of many containers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports: dict[tuple[str, str], str] = {}
        self._free = iter(ports.free(3 * len(SERVICES) + 3))

    def here(self, container: str, word: str) -> str:
        """What a container is told, as this machine has to hear it."""
        word = word.replace("/etc/bodega/flags", str(DEPLOY / "flags"))
        word = word.replace(CERTIFICATES, str(self.folder / "certificates" / container))
        word = word.replace("/var/lib/bodega", str(self.folder)).replace("/opt/bodega", str(self.folder))
        word = re.sub(r"\b(?:0\.0\.0\.0|127\.0\.0\.1):(\d+)", rf"{container}:\1", word)
        word = re.sub(
            rf"\b({'|'.join(RUNNING)}):(\d+)", lambda at: f"127.0.0.1:{self.port(*at.groups())}", word
        )
        return word.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 (no longer)

    def port(self, container: str, port: str) -> str:
        """The one of ours that stands for a container's."""
        if (container, port) not in self._ports:
            self._ports[container, port] = str(next(self._free))
        return self._ports[container, port]

    def command(self, container: str) -> list[str]:
        words = [self.here(container, word) for word in services()[container]["command"]]
        return [
            *BODEGA,
            *(re.sub(r"port=(\d+)$", lambda at: f"port={self.port(container, at[1])}", w) for w in words),
        ]

    def environment(self, container: str) -> dict[str, str]:
        told = {
            name: self.port(container, text) if name.endswith("_PORT") else self.here(container, text)
            for name, text in services()[container].get("environment", {}).items()
        }
        given = self.folder / "given" / container
        given.mkdir(parents=True)
        for secret in services()[container].get("secrets", ()):
            (given / secret).write_text(self.here(container, (self.folder / "secrets" / secret).read_text()))
        return {**os.environ, **told, **({"BODEGA_SECRETS_DIR": str(given)} if told else {})}

    def healthy(self, container: str) -> bool:
        _, program, *words = services()[container]["healthcheck"]["test"]
        assert program == "bodega"
        return bodega(*(self.here(container, word) for word in words)).returncode == 0


def bodega(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BODEGA, *words], env=environment, capture_output=True, text=True, timeout=END_MAX_S, check=False
    )


@contextmanager
def started(host: Host, container: str) -> Iterator[subprocess.Popen[bytes]]:
    with (host.folder / f"{container}.log").open("wb") as log:
        command, environment = host.command(container), host.environment(container)
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_MAX_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_healthy(host: Host, container: str, process: subprocess.Popen[bytes], deadline: float) -> None:
    while not host.healthy(container):
        said = (host.folder / f"{container}.log").read_text()
        assert process.poll() is None, said
        assert time.monotonic() < deadline, f"{container} is not healthy: {said}"
        time.sleep(AGAIN_S)


@pytest.mark.timeout(300)
def test_the_shop_that_compose_describes_runs_in_production(tmp_path: Path) -> None:
    host = Host(tmp_path)
    prepared(tmp_path, "sqlite")
    for name in SERVICES:
        (tmp_path / "databases" / name).mkdir(parents=True)
    for made in (
        bodega("certs", str(tmp_path / "certificates")),
        bodega("describe", str(tmp_path / "api.binpb")),
    ):
        assert (made.returncode, made.stderr) == (0, "")
    migrated = subprocess.run(
        host.command("migrate"),
        env=host.environment("migrate"),
        capture_output=True,
        timeout=END_MAX_S,
        check=False,
    )
    assert (migrated.returncode, migrated.stderr) == (0, b"")
    with ExitStack() as stack:
        running = {name: stack.enter_context(started(host, name)) for name in RUNNING}
        deadline = time.monotonic() + READY_MAX_S
        for name, process in running.items():
            wait_healthy(host, name, process, deadline)
        _somebody_administers(host)
        _the_operator_sees_everybody(host)
    assert {name: process.returncode for name, process in running.items()} == dict.fromkeys(RUNNING, 0)


def _somebody_administers(host: Host) -> None:
    """Through the operator's certificate, then through the edge."""
    shop = host.folder / "operator"
    shop.mkdir()
    told = json.loads((DEPLOY / "operator" / "endpoints.json").read_text())
    (shop / "endpoints.json").write_text(host.here("operator", json.dumps(told)))
    (shop / "password").write_text(PASSWORD)
    words = ("root@example.com", f"--password-file={shop / 'password'}", f"--data={shop}")
    made = bodega("admin", "create", *words)
    assert (made.returncode, made.stderr) == (0, "")
    edge = f"http://127.0.0.1:{host.port('gateway', '8080')}"
    answer = httpx.post(
        f"{edge}/api/v1/sessions", json={"email": "root@example.com", "password": PASSWORD}, timeout=END_MAX_S
    )
    assert answer.status_code == 200, answer.text
    session = answer.json()
    account = f"{edge}/api/v1/users/{session['session']['userId']}"
    signed_in = {"Authorization": f"Bearer {session['accessToken']}"}
    assert httpx.get(account, headers=signed_in, timeout=END_MAX_S).status_code == 200
    assert httpx.get(account, timeout=END_MAX_S).status_code == 401


def _the_operator_sees_everybody(host: Host) -> None:
    """At the mesh ports, since the guests' speak TLS, and where each says it is."""
    asked = bodega("status", "--json", f"--data={host.folder / 'operator'}")
    assert (asked.returncode, asked.stderr) == (0, "")
    told = json.loads(asked.stdout)
    assert {seen["name"] for seen in told["programs"] if seen["health"] == "SERVING"} == {*RUNNING}
    assert all(seen["instance"] for seen in told["programs"] if seen["name"] in SERVICES)
    assert told["notes"] == []
