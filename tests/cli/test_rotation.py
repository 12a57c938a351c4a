"""A running shop whose certificates, and then whose authority, are replaced while people shop."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import httpx
import pytest
from cryptography import x509

from services.chassis.identity.workload import server_name
from services.chassis.testing import until
from services.chassis.tls import Identity, TlsFiles
from services.cli import certificates, shop
from services.cli.certificates import Certificates, Signed
from services.cli.data_folder import SERVICES
from services.cli.endpoints import Endpoints
from services.cli.shop import Shop

WAIT_S = 30.0
EVERY_S = 0.05


async def serial(address: str, workload: str, ours: TlsFiles) -> int:
    """Of the certificate that is shown at a mesh port, to whoever shows a good one."""
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(
        host, int(port), ssl=Identity(ours).for_client(), server_hostname=server_name(workload)
    )
    try:
        shown: ssl.SSLObject = writer.get_extra_info("ssl_object")
        der = shown.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number
    finally:
        writer.close()


async def serials(at: Endpoints) -> dict[str, int]:
    ours = at.identity()
    assert ours is not None
    return {name: await serial(at.services[name].mesh, name, ours) for name in SERVICES}


class Shopper:
    """Looks at the shelves without a pause."""

    def __init__(self, gateway: str) -> None:
        self.answers: list[int] = []
        self._http = httpx.AsyncClient(base_url=gateway, timeout=WAIT_S)

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()
        await asyncio.wait({self._looking})
        await self._http.aclose()

    async def _look(self) -> None:
        while True:
            self.answers.append((await self._http.get("/api/v1/products")).status_code)


async def test_certificates_and_authority_are_replaced_and_no_request_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop, "RENEW_EVERY_S", EVERY_S)
    monkeypatch.setattr(certificates, "SUCCESSOR_KNOWN_AFTER", certificates.SUCCESSOR_KNOWN_AFTER / 20)
    async with Shop(tmp_path / "shop") as running, Shopper(running.endpoints.gateway) as shopper:
        made = Certificates(running.folder.certificates)
        before = await serials(running.endpoints)

        for name in (*SERVICES, "gateway", "operator", "nats"):
            signer = Signed.read(made.folder / "authority" / "signer.pem")
            assert signer is not None
            certificates.leaf(signer, name, datetime.now(UTC)).write(made.of(name))
        between = await _others(running.endpoints, before)

        made.replace_authority()
        after = await _others(running.endpoints, between)
        assert len({*before.values(), *between.values(), *after.values()}) == 3 * len(SERVICES)

        seen = len(shopper.answers)
        await until(lambda: len(shopper.answers) >= seen + 10, WAIT_S)
        assert set(shopper.answers) == {200}
        assert running.programs.exits("nats") == 0


async def _others(at: Endpoints, than: dict[str, int]) -> dict[str, int]:
    """The serials once every one has changed."""
    async with asyncio.timeout(WAIT_S):
        while (now := await serials(at)).items() & than.items():  # noqa: ASYNC110 (nobody tells us)
            await asyncio.sleep(EVERY_S)
    return now
