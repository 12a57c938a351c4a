"""`bodega nats`: a real broker, as an image's role is typed; and `bodega probe` asking it."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.chassis.tls import Identity, TlsFiles
from services.cli import broker, ports, probe
from services.cli.certificates import Certificates
from services.cli.readiness import nats_with_jetstream
from services.cli.refusal import Refused

WITHIN_S = 30.0
POLL_S = 0.05
HOST = "127.0.0.1"


async def until(said: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not said():  # noqa: ASYNC110 (another process's files)
            await asyncio.sleep(POLL_S)


async def until_ready(port: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await nats_with_jetstream(HOST, port)():  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def serving(folder: Path, certificates: Certificates) -> AsyncIterator[tuple[int, Path]]:
    """Its port, and the file with what it says."""
    [port] = ports.free(1)
    log = folder / "log"
    own = certificates.of("nats").parent
    command = ("nats", str(folder / "store"), f"--identity={own}", f"--port={port}")
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", *command), stdout=said, stderr=said
        )
    try:
        await until_ready(port)
        yield port, log
        process.terminate()
        assert await asyncio.wait_for(process.wait(), WITHIN_S) in (0, 1)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def shown(port: int, files: TlsFiles) -> bytes:
    """The certificate that the broker shows to a workload."""
    reader, writer = await asyncio.open_connection(
        HOST, port, ssl=Identity(files).for_client(), server_hostname="nats.bodega"
    )
    try:
        assert (await asyncio.wait_for(reader.readline(), WITHIN_S)).startswith(b"INFO")
        secured = writer.get_extra_info("ssl_object")
        assert isinstance(secured, ssl.SSLObject)
        return secured.getpeercert(binary_form=True) or b""
    finally:
        writer.close()


async def test_it_serves_workloads_until_it_is_asked_to_end(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "certificates")
    certificates.renew()
    order = TlsFiles(certificate=certificates.of("order"), authorities=certificates.authorities("order"))
    async with serving(tmp_path, certificates) as (port, log):
        assert await shown(port, order)
        assert b"Server is ready" in log.read_bytes(), "it says so where containers are read"
    assert not await nats_with_jetstream(HOST, port)(), "nothing stays behind"


async def test_a_renewed_certificate_is_shown_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path / "certificates")
    certificates.renew()
    files = TlsFiles(certificate=certificates.of("nats"), authorities=certificates.authorities("nats"))
    monkeypatch.setattr(broker, "LOOK_EVERY_S", POLL_S)
    told = tmp_path / "told"
    trap = f"import signal; signal.signal(signal.SIGHUP, lambda *_: open({str(told)!r}, 'w').close()); "
    script = trap + f"open({str(tmp_path / 'up')!r}, 'w').close(); signal.pause(); signal.pause()"
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    renewing = asyncio.create_task(broker._pass_on_renewals(server, Identity(files)))
    try:
        await until((tmp_path / "up").exists)
        assert not told.exists()
        certificates.of("nats").unlink()
        certificates.renew()
        await until(told.exists)
    finally:
        renewing.cancel()
        server.kill()
        await server.wait()


@pytest.mark.parametrize("target", ["nats://127.0.0.1", "http://", "nats://127.0.0.1:port"])
def test_a_target_without_host_and_port_is_refused(target: str) -> None:
    with pytest.raises(Refused, match="must name host and port"):
        probe._plain(target)


def test_whoever_does_not_listen_is_not_ready() -> None:
    ready = probe._plain("http://127.0.0.1:1/health/ready")
    assert ready is not None
    assert not probe._answers(ready, 5.0)
    assert probe._plain("127.0.0.1:50051") is None
