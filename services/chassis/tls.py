"""TLS between programs: certificates as files have them now, so that they are replaced without a restart.

Every file may change at any moment, by a rename (`bodega up`, `bodega certs`) or by a swapped link
(Kubernetes, SPIFFE's helper). Servers look before each handshake, clients every second: see client/line.py.
"""

import ipaddress
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pydantic import BaseModel, ConfigDict

from services.chassis.identity.workload import server_name
from services.chassis.telemetry import logger

LOADS_MAX: Final = 3
"""OpenSSL reads certificate and key one after the other, and in between another pair may take their place."""

_log = logger("tls")

_LOCAL_NAMES: Final = frozenset({"localhost", "ip6-localhost"})
_Marks = tuple[tuple[int, int, int], ...]


class TlsRefused(Exception):
    """There is no connection as safe as it has to be; the message is the one line that says why."""


class TlsFiles(BaseModel):
    """Where a program's certificate is, and whom it trusts. All PEM."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: Path
    """Our own, followed by those between it and the authority, if there are any."""

    authorities: Path
    """Whose certificates we trust: several while one follows another."""

    key: Path | None = None
    """None: in the same file as the certificate."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the files say at one moment; certificate and key fit."""

    certificate: bytes
    key: bytes
    authorities: bytes
    ends_at: datetime


class Identity:
    """Who we are and whom we trust, by files that may change. Raises TlsRefused if they are of no use."""

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self._paths = (files.certificate, files.key or files.certificate, files.authorities)
        self._lock = threading.Lock()  # handshakes ask in grpc's threads
        self._marks = self._look()
        self._present = self._read()

    def present(self) -> Credentials:
        """The same object for as long as nothing has changed.

        What cannot be used, a certificate whose key is not there yet perhaps, leaves things as they are.
        """
        with self._lock:
            try:
                marks = self._look()
                if marks != self._marks:
                    self._present = self._read()
                    self._marks = marks
                    _log.info("certificates have changed", ends_at=self._present.ends_at.isoformat())
            except TlsRefused as refused:
                _log.warning("certificates cannot be read; the last good ones stay", problem=str(refused))
            return self._present

    def ends_at(self) -> float:
        """Until when our present certificate is good, in Unix time."""
        return self.present().ends_at.timestamp()

    def for_server(self, *, asks_who_calls: bool) -> grpc.ServerCredentials:
        """For a port of ours: callers must show a certificate, or are not asked for one."""
        shown = self.present()

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            present = self.present()
            if present is shown:
                return None
            shown = present
            return _configuration(present)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(shown),
            changed,  # type: ignore[arg-type]  # None: as before
            require_client_authentication=asks_who_calls,
        )

    def for_client(self) -> ssl.SSLContext:
        """The same for libraries that speak TLS by Python's own; for the connection made next."""
        context = ssl.create_default_context(cadata=self.present().authorities.decode("ascii"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for tries_left in reversed(range(LOADS_MAX)):
            try:
                context.load_cert_chain(self.files.certificate, self.files.key)
                break
            except (OSError, ssl.SSLError) as error:
                if not tries_left:
                    raise TlsRefused(f"{self.files.certificate}: {error}") from None
        return context

    def _look(self) -> _Marks:
        try:
            found = [path.stat() for path in self._paths]
        except OSError as error:
            raise TlsRefused(f"{error.filename} cannot be read: {error.strerror}") from None
        return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in found)

    def _read(self) -> Credentials:
        try:
            certificate, key, authorities = (path.read_bytes() for path in self._paths)
        except OSError as error:
            raise TlsRefused(f"{error.filename} cannot be read: {error.strerror}") from None
        ours = _parsed(x509.load_pem_x509_certificate, certificate, self._paths[0])
        fits = _parsed(_private_key, key, self._paths[1]).public_key() == ours.public_key()
        if not fits:
            raise TlsRefused(f"{self._paths[1]} is not the key of {self._paths[0]}")
        _parsed(x509.load_pem_x509_certificates, authorities, self._paths[2])
        return Credentials(certificate, key, authorities, ours.not_valid_after_utc)


def channel_credentials(shown: Credentials) -> grpc.ChannelCredentials:
    """For a channel that shows this certificate; grpc cannot exchange it later."""
    return grpc.ssl_channel_credentials(shown.authorities, shown.key, shown.certificate)


def channel_options(workload: str) -> tuple[tuple[str, Any], ...]:
    """Whoever answers must be this workload: a certificate of another one, though valid, is refused."""
    return (("grpc.ssl_target_name_override", server_name(workload)),)


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine."""
    if host in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def stays_here(target: str) -> bool:
    """The same for a gRPC target: `host:port`, `ipv4:host:port,…`, `dns:///host:port`, `unix:path`."""
    scheme, separator, rest = target.partition(":")
    if separator and scheme == "unix":
        return True
    addresses = rest.rpartition("/")[2] if scheme in ("dns", "ipv4", "ipv6") else target
    return all(is_loopback(address.rpartition(":")[0]) for address in addresses.split(","))


def _configuration(shown: Credentials) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(shown.key, shown.certificate)], root_certificates=shown.authorities
    )


def _private_key(pem: bytes) -> Any:
    return serialization.load_pem_private_key(pem, None)


def _parsed(parse: Callable[[bytes], Any], pem: bytes, path: Path) -> Any:
    try:
        return parse(pem)
    except (ValueError, TypeError):  # TypeError: a key with a password
        raise TlsRefused(f"{path} is not the PEM that it has to be") from None
