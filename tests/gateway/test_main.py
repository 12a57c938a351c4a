"""The program: how it starts, refuses to, and stops."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from bodega.policy.v1 import policy_pb2
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

from gateway import __main__ as program
from gateway import app, descriptors
from gateway.site import CannotServe
from services.chassis import config, failpoints
from tests.gateway.world import Backend, World

ROOT = Path(__file__).parents[2]


async def start(*arguments: object) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "gateway", *map(str, arguments)]
    return await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


async def outcome(*arguments: object) -> tuple[int | None, str]:
    process = await start(*arguments)
    async with asyncio.timeout(20):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()


async def line(process: asyncio.subprocess.Process, event: str) -> dict[str, Any]:
    assert process.stderr is not None
    async with asyncio.timeout(20):
        async for raw in process.stderr:
            found: dict[str, Any] = orjson.loads(raw)
            if found["event"] == event:
                return found
    raise AssertionError(f"ended without {event}")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.asyncio(loop_scope="module")  # where the backend lives
async def test_it_says_where_it_serves_and_drains_on_sigterm(world: World, backend: Backend) -> None:
    process = await start(
        "--descriptor-set", world.path, "--backend", f"127.0.0.1:{backend.port}",
        "--port", 0, "--operations-port", 0,
    )  # fmt: skip
    serving = await line(process, "serving")
    released = asyncio.Event()

    async def wait(_context: Any, _seen: Any) -> bytes:
        await released.wait()
        return b""

    backend.answers["GetShelf"] = wait
    url = f"http://127.0.0.1:{serving['port']}"
    health = f"http://127.0.0.1:{serving['operations_port']}/health/ready"
    async with httpx.AsyncClient(timeout=10) as http:
        assert (await http.get(health)).status_code == 200
        headers = {"x-request-timeout": "30"}
        asking = asyncio.create_task(http.get(f"{url}/v1/shelves/1", headers=headers))
        async with asyncio.timeout(10):
            await backend.arrived.wait()
        process.send_signal(signal.SIGTERM)
        await line(process, "draining")
        assert (await http.get(health)).json()["status"] == "draining"
        assert process.returncode is None
        released.set()
        assert (await asking).status_code == 200
    async with asyncio.timeout(20):
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "127.0.0.1:1", "--backend", "127.0.0.1:2"], "two backends for all services"),
        (["--backend", "localhost"], "'localhost' is not host:port"),
        (["--backend", "ipv4:127.0.0.1:1,127.0.0.1"], "'ipv4:127.0.0.1:1,127.0.0.1' is not host:port"),
        (["--backend", "edge.v1.Shelves=127.0.0.1:1"], "no backend for service edge.v1.Legacy"),
        (["--backend", "127.0.0.1:1", "--backend", "no.Such=127.0.0.1:1"], "no.Such"),
        (["--backend", "127.0.0.1:1", "--host", "256.0.0.1"], "cannot listen on 256.0.0.1"),
        (["--backend", "127.0.0.1:1", "--port", "70000"], "0 to 65535"),
        (["--backend", "127.0.0.1:1", "--allow-origin", "shop.example"], "is no origin"),
        (["--backend", "127.0.0.1:1", "--trusted-proxy", "here"], "'here' does not appear to be"),
        (["--backend", "127.0.0.1:1", "--limit-address", "often"], "'often' is no limit"),
        (["--backend", "127.0.0.1:1", "--limit-store", "oracle://x"], "limits are kept in a store such as"),
        (["--backend", "127.0.0.1:1", "--access"], "nobody could call it"),
        (["--backend", "127.0.0.1:1", "--access", "--identity", "/nowhere"], "cannot read /nowhere"),
        (["--backend", "shop.example:1"], "calls to shop.example:1 would leave this machine in plaintext"),
        (["--backend", "127.0.0.1:1", "--mesh-certificate", "x.pem"], "go together"),
        (
            ["--backend", "127.0.0.1:1", "--mesh-certificate", "x.pem", "--mesh-authorities", "y.pem"],
            "x.pem cannot be read",
        ),
        (["--backend", "127.0.0.1:1", "--limit-store", "redis://:hunter2@cache"], "a password goes into"),
        (["--backend", "127.0.0.1:1", "--production"], "anyone could ask anything"),
        (["--backend", "127.0.0.1:1", "--production"], "backends would be called in plaintext"),
    ],
)
async def test_what_it_cannot_serve_is_one_line_and_code_2(
    world: World, arguments: list[str], said: str
) -> None:
    given = ["--descriptor-set", world.path, "--port", 0, *arguments]
    code, errors = await outcome(*given)
    assert (code, said in errors) == (2, True), errors
    assert "Traceback" not in errors
    assert "hunter2" not in errors


@pytest.mark.parametrize("variable", [failpoints.VARIABLE, failpoints.FILE_VARIABLE])
def test_failpoints_have_no_business_in_production(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    monkeypatch.setenv(variable, "outbox.publish=exit")
    given = ("--descriptor-set", str(world.path), "--backend", "127.0.0.1:1", "--port", "0", "--production")
    monkeypatch.setattr(sys, "argv", ["gateway", *given])
    assert program.main() == 2
    assert f"{variable} is set" in capsys.readouterr().err


@pytest.mark.parametrize("store", ["redis://:hunt/er2@cache", "oracle://:hunter2@cache"])
def test_the_password_of_the_store_comes_as_a_file_and_is_not_shown(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    store: str,
) -> None:
    (tmp_path / "bodega_gateway__limit_store").write_text(f"{store}\n")
    monkeypatch.setenv(config.SECRETS_VARIABLE, str(tmp_path))
    given = ("--descriptor-set", str(world.path), "--backend", "127.0.0.1:1", "--port", "0")
    monkeypatch.setattr(sys, "argv", ["gateway", *given])
    assert program.main() == 2
    said = capsys.readouterr().err
    assert "store of limits" in said or "kept in a store" in said
    assert "hunt" not in said


async def test_a_port_in_use_is_one_line_and_code_2(world: World, taken: int) -> None:
    backend = ["--descriptor-set", world.path, "--backend", "127.0.0.1:1"]
    for ports in (["--port", taken], ["--port", 0, "--operations-port", taken]):
        code, errors = await outcome(*backend, *ports)
        assert (code, errors.strip()) == (
            2, f"gateway: cannot listen on 127.0.0.1:{taken}: Address already in use"
        )  # fmt: skip


@pytest.mark.parametrize("content", [None, b"", b"not a descriptor set", b"\x0a\x05"])
async def test_a_file_that_is_no_descriptor_set_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "set.binpb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(descriptors.BadDescriptorSet, match=r"set\.binpb"):
        descriptors.read(path)


def test_a_set_without_its_imports_is_refused(world: World) -> None:
    alone = descriptor_pb2.FileDescriptorSet(
        file=[file for file in world.files.file if file.name == "edge.proto"]
    )
    with pytest.raises(CannotServe, match=r"imports bodega/policy/v1/policy\.proto, which the set lacks"):
        app.build(alone, ["127.0.0.1:1"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"get": "/v1/shelves/{shelf_id"}, "edge.v1.Shelves/Hidden: .*'}' is missing"),
        ({"get": "/v1/shelves/{nonsense}"}, "no field 'nonsense'"),
        ({"get": "/v1/x/{tags}"}, "tags is repeated"),
        ({"get": "/v1/x/{filter}"}, "filter is a message"),
        ({"get": "/v1/x/{name.first}"}, "name has no fields"),
        ({"post": "/v1/x", "body": "nonsense"}, "body names 'nonsense'"),
        ({"post": "/v1/x", "body": "filter.color"}, "body names"),
        ({"get": "/v1/x", "response_body": "nonsense"}, "response_body names"),
        ({"get": "/v1/shelves/{name}"}, "takes the same requests as /v1/shelves/{shelf_id}"),
        ({"body": "*"}, "names no method and path"),
        (
            {
                "get": "/v1/x",
                "additional_bindings": [{"get": "/v1/y", "additional_bindings": [{"get": "/v1/z"}]}],
            },
            "must not nest",
        ),
    ],
)
def test_a_rule_that_cannot_be_served_names_its_method(
    world: World, change: dict[str, Any], said: str
) -> None:
    files = descriptor_pb2.FileDescriptorSet()
    files.CopyFrom(world.files)
    file = next(file for file in files.file if file.name == "edge.proto")
    method = next(method for method in file.service[0].method if method.name == "Hidden")
    method.options.Extensions[annotations_pb2.http].CopyFrom(
        annotations_pb2.http.message_type._concrete_class(**change)
    )
    with pytest.raises(CannotServe, match=said):
        app.build(files, ["127.0.0.1:1"])


@pytest.mark.parametrize(
    ("cursor", "resume", "said"),
    [
        ("version", "", "no field 'version'"),
        ("at", "", "at is a message"),
        ("at.version.x", "", "version has no fields"),
        ("", "version", "no field 'version'"),
    ],
)
def test_a_stream_that_cannot_be_numbered_or_resumed_names_its_method(
    world: World, cursor: str, resume: str, said: str
) -> None:
    files = descriptor_pb2.FileDescriptorSet()
    files.CopyFrom(world.files)
    file = next(file for file in files.file if file.name == "edge.proto")
    method = next(method for method in file.service[0].method if method.name == "Follow")
    change = policy_pb2.MethodPolicy(stream_cursor=cursor, resume_field=resume)
    method.options.Extensions[policy_pb2.method].CopyFrom(change)
    with pytest.raises(CannotServe, match=f"edge.v1.Shelves/Follow: .*{said}"):
        app.build(files, ["127.0.0.1:1"])
