"""Certificates that are accepted, those that are not, and their replacement under load."""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services.chassis import app, client, telemetry, tls
from services.chassis.client import line
from services.chassis.config import ServiceSettings
from services.chassis.identity.workload import server_name, workload_of
from services.chassis.server.access import Everyone
from services.chassis.testing import until
from services.chassis.tls import Identity, TlsFiles, TlsRefused
from services.cli import certificates
from tests.chassis import playground
from tests.chassis.papers import Papers, stranger
from tests.chassis.playground import FILE, Ping, Pong, Stub

WAIT_S = 15.0
CALLERS = 4


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path / "certificates")


async def who_calls(_request: Any, context: Any) -> Any:
    return Pong(name=workload_of(context))


@asynccontextmanager
async def served(files: TlsFiles, **settings: Any) -> AsyncIterator[app.App]:
    """The workload `playground`, which answers with the workload that asks."""
    server = app.App(ServiceSettings(service="playground", tls=files, **settings), access=Everyone())
    server.serve(playground.add_to_server, {"Read": who_calls}, FILE)
    async with server.running():
        yield server


async def asked(channel: grpc.aio.Channel) -> str:
    async with asyncio.timeout(WAIT_S):
        return str((await Stub(channel).Read(Ping())).name)


async def refused(target: str, files: TlsFiles) -> str:
    """What a caller is told who gets no connection."""
    async with client.connect(target, FILE, tls=files) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await Stub(channel.without_retries()).Read(Ping(), timeout=WAIT_S)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(failed.value.details())


async def test_on_the_mesh_port_a_caller_is_the_workload_of_its_certificate(papers: Papers) -> None:
    async with served(papers.of("playground")) as server:
        for workload in ("order", "gateway"):
            async with client.connect(server.mesh_address, FILE, tls=papers.of(workload)) as channel:
                assert await asked(channel) == workload


async def test_on_the_guests_port_nobody_is_a_workload_whatever_is_shown(papers: Papers) -> None:
    async with served(papers.of("playground")) as server:
        async with client.connect(server.grpc_address, FILE, tls=papers.of("order")) as channel:
            assert await asked(channel) == ""
        credentials = grpc.ssl_channel_credentials(papers.authorities.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{_port(server.grpc_address)}", credentials) as channel:
            assert await asked(channel) == ""


async def test_guests_speak_plaintext_where_that_was_asked_for(papers: Papers) -> None:
    async with (
        served(papers.of("playground"), guests_plaintext=True) as server,
        client.connect(server.grpc_address, FILE) as channel,
    ):
        assert await asked(channel) == ""


@pytest.mark.parametrize(
    "uri", ["spiffe://elsewhere/order", "https://bodega/order", "spiffe://bodega/", "spiffe://bodega.x/order"]
)
async def test_other_names_are_no_workloads(
    papers: Papers, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(papers.of("playground")) as server:
        monkeypatch.setattr(certificates, "spiffe_id", lambda _workload: uri)
        async with client.connect(server.mesh_address, FILE, tls=papers.of("order")) as channel:
            assert await asked(channel) == ""


# Callers that servers refuse


async def test_a_caller_without_a_certificate_is_refused(papers: Papers) -> None:
    async with served(papers.of("playground")) as server:
        credentials = grpc.ssl_channel_credentials(papers.authorities.read_bytes())
        options = tls.channel_options("playground")
        async with grpc.aio.secure_channel(server.mesh_address, credentials, options=options) as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await asked(channel)


async def test_a_caller_of_another_authority_is_refused(papers: Papers) -> None:
    async with served(papers.of("playground")) as server:
        await refused(server.mesh_address, papers.of("order", signer=stranger()))


async def test_a_caller_whose_certificate_has_ended_is_refused(papers: Papers) -> None:
    async with served(papers.of("playground")) as server:
        await refused(server.mesh_address, papers.of("order", lives=timedelta(seconds=-1)))


@pytest.mark.parametrize("door", ["mesh_address", "grpc_address"])
async def test_plaintext_to_a_tls_port_is_refused(papers: Papers, door: str) -> None:
    async with (
        served(papers.of("playground")) as server,
        client.connect(getattr(server, door), FILE) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await Stub(channel.without_retries()).Read(Ping(), timeout=WAIT_S)


@pytest.mark.parametrize("door", ["mesh_address", "grpc_address"])
@pytest.mark.parametrize(
    ("version", "accepted"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
async def test_tls_is_1_2_or_newer(
    papers: Papers,
    door: str,
    version: ssl.TLSVersion,
    accepted: bool,  # noqa: FBT001 (a row of the table)
) -> None:
    files = papers.of("order")
    async with served(papers.of("playground")) as server:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that it is too old is the point
            context = Identity(files).for_client()
            context.set_ciphers("ALL:@SECLEVEL=0")  # else OpenSSL itself would not offer 1.1
            context.minimum_version = context.maximum_version = version
        opening = asyncio.open_connection(
            "127.0.0.1",
            _port(getattr(server, door)),
            ssl=context,
            server_hostname=server_name("playground"),
        )
        if not accepted:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await opening
            return
        _, writer = await opening
        assert writer.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
        writer.close()


# Servers that callers refuse


async def test_a_server_of_another_authority_is_refused(papers: Papers) -> None:
    async with served(papers.of("playground", signer=stranger())) as server:
        assert "CERTIFICATE_VERIFY_FAILED" in await refused(server.mesh_address, papers.of("order"))


async def test_a_server_whose_certificate_has_ended_is_refused(papers: Papers) -> None:
    async with served(papers.of("playground", lives=timedelta(seconds=-1))) as server:
        assert "CERTIFICATE_VERIFY_FAILED" in await refused(server.mesh_address, papers.of("order"))


async def test_a_workload_that_poses_as_another_is_refused(papers: Papers) -> None:
    async with served(papers.of("payment")) as server:
        assert "Hostname Verification" in await refused(server.mesh_address, papers.of("order"))


async def test_calls_that_would_leave_the_machine_in_plaintext_are_not_made() -> None:
    for target in (
        "shop.example:50051",
        "10.0.0.7:50051",
        "dns:///user:50051",
        "ipv4:127.0.0.1:1,10.0.0.1:1",
    ):
        with pytest.raises(TlsRefused, match="would leave this machine"):
            client.connect(target, FILE)
    for target in ("localhost:1", "127.0.0.2:1", "[::1]:1", "ipv4:127.0.0.1:1,127.0.0.1:2", "unix:/socket"):
        await client.connect(target, FILE).close()


# Files


async def test_a_program_does_not_start_without_its_files(papers: Papers, tmp_path: Path) -> None:
    absent = papers.of("playground").model_copy(update={"certificate": tmp_path / "absent.pem"})
    with pytest.raises(TlsRefused, match=r"absent\.pem cannot be read"):
        async with served(absent):
            pass


def test_files_of_no_use_are_refused_in_one_line(papers: Papers, tmp_path: Path) -> None:
    good, other = papers.of("order"), papers.of("payment")
    (tmp_path / "nonsense.pem").write_text("nonsense")
    for change, why in (
        ({"key": other.certificate}, "is not the key of"),
        ({"certificate": tmp_path / "nonsense.pem"}, "nonsense.pem is not the PEM"),
        ({"authorities": tmp_path / "nonsense.pem"}, "nonsense.pem is not the PEM"),
        ({"certificate": good.authorities}, "authorities.pem is not the PEM"),
    ):
        with pytest.raises(TlsRefused, match=why):
            Identity(good.model_copy(update=change))


def test_what_cannot_be_used_leaves_the_last_good_ones(papers: Papers) -> None:
    files = papers.of("order")
    identity = Identity(files)
    before = identity.present()
    good = files.certificate.read_bytes()
    for broken in (b"", good[: len(good) // 2], good.partition(b"-----BEGIN PRIVATE KEY")[0]):
        files.certificate.write_bytes(broken)
        assert identity.present() is before
    files.certificate.unlink()
    assert identity.present() is before
    after = papers.of("order")
    assert identity.present().certificate == after.certificate.read_bytes() != before.certificate


# Under load


class Crowd:
    """Callers who never rest, and what became of their calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.answers = 0
        self._stub = Stub(channel)

    @asynccontextmanager
    async def calling(self) -> AsyncIterator["Crowd"]:
        async with asyncio.TaskGroup() as group:  # the first failure ends the test
            tasks = [group.create_task(self._call()) for _ in range(CALLERS)]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()

    async def more(self) -> None:
        wanted = self.answers + 10 * CALLERS
        await until(lambda: self.answers >= wanted)

    async def _call(self) -> None:
        while True:
            await self._stub.Read(Ping(), timeout=WAIT_S)
            self.answers += 1


async def test_no_call_fails_while_certificates_and_authorities_are_replaced(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "LOOK_EVERY_S", 0.01)
    seen: set[bytes] = set()

    async def note(_request: Any, context: Any) -> Any:
        seen.update(context.auth_context()["x509_pem_cert"])
        return Pong(name=workload_of(context))

    server = app.App(ServiceSettings(service="playground", tls=papers.of("playground")), access=Everyone())
    server.serve(playground.add_to_server, {"Read": note}, FILE)
    ours = papers.of("order")
    async with (
        server.running(),
        client.connect(server.mesh_address, FILE, tls=ours) as channel,
        Crowd(channel.without_retries()).calling() as crowd,
    ):

        async def replaced(signer: certificates.Signed) -> None:
            papers.of("playground", signer=signer)
            papers.of("order", signer=signer)
            await until(lambda: shown(ours) in seen)
            await crowd.more()

        await crowd.more()
        await replaced(papers.authority)
        await replaced(papers.authority)
        successor = certificates.authority(datetime.now(UTC))
        papers.trust(papers.authority, successor)
        await crowd.more()
        await replaced(successor)
        papers.trust(successor)
        await replaced(successor)
        assert await asked(channel) == "order"
    assert len(seen) >= 5


async def test_a_stream_outlives_the_certificate_it_began_with(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "LOOK_EVERY_S", 0.01)
    more: asyncio.Queue[str] = asyncio.Queue()

    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        while word := await more.get():
            yield Pong(name=word)

    server = app.App(ServiceSettings(service="playground", tls=papers.of("playground")), access=Everyone())
    server.serve(playground.add_to_server, {"Watch": watch}, FILE)
    ours = papers.of("order")
    async with server.running(), client.connect(server.mesh_address, FILE, tls=ours) as channel:
        stream = Stub(channel).Watch(Ping())
        more.put_nowait("before")
        assert (await stream.read()).name == "before"
        first = channel.raw
        papers.of("order")
        await until(lambda: channel.raw is not first)
        for word in ("after", ""):
            more.put_nowait(word)
        assert (await stream.read()).name == "after"
        assert await stream.read() is grpc.aio.EOF


async def test_a_certificate_that_the_neighbour_does_not_trust_leaves_the_connection_that_stands(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(line, "TAKE_OVER_MAX_S", 0.05)
    with telemetry.captured() as lines:
        async with served(papers.of("playground")) as server:
            ours = papers.of("order")
            async with client.connect(server.mesh_address, FILE, tls=ours) as channel:
                first = channel.raw
                assert await asked(channel) == "order"
                papers.of("order", signer=stranger())
                await until(lambda: any("old one stays" in told["event"] for told in lines))
                assert await asked(channel.without_retries()) == "order"
                assert channel.raw is first


async def test_a_neighbour_that_is_down_meanwhile_is_found_with_the_new_certificate(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(line, "TAKE_OVER_MAX_S", 0.05)
    async with served(papers.of("playground")) as server:
        address = server.mesh_address
    ours = papers.of("order", lives=timedelta(seconds=-1))
    async with client.connect(address, FILE, tls=ours) as channel:
        papers.of("order")
        async with served(papers.of("playground"), mesh_port=_port(address)):
            first = channel.raw
            await until(lambda: channel.raw is not first)
            assert await asked(channel) == "order"


def shown(files: TlsFiles) -> bytes:
    """The certificate as the other side is shown it."""
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    return certificate.public_bytes(serialization.Encoding.PEM)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
