"""Certificates for tests: good ones of workloads, and those that nobody should accept."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.chassis.tls import TlsFiles
from services.cli import certificates
from services.cli.certificates import Signed
from services.cli.data_folder import write_whole


class Papers:
    """An authority in a folder, and files of the workloads it vouches for."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.authority = certificates.authority(datetime.now(UTC))
        self.authorities = folder / "authorities.pem"
        self._folder = folder
        self.trust(self.authority)

    def of(self, workload: str, *, signer: Signed | None = None, lives: timedelta | None = None) -> TlsFiles:
        """Files of a workload, each time with a fresh certificate."""
        path = self._folder / f"{workload}.pem"
        lives = lives or timedelta(hours=1)
        certificates.leaf(signer or self.authority, workload, datetime.now(UTC), lives=lives).write(path)
        return TlsFiles(certificate=path, authorities=self.authorities)

    def trust(self, *authorities: Signed) -> None:
        """Whom all of them trust from now on."""
        trusted = certificates.bundle(*(authority.certificate for authority in authorities))
        write_whole(self.authorities, trusted)


def stranger() -> Signed:
    """An authority that nobody trusts."""
    return certificates.authority(datetime.now(UTC))
