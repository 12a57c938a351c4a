"""The certificates by which the programs of a shop know each other: an authority, and a leaf a workload.

DIR/authorities.pem   whom everybody trusts
DIR/authority.pem     signs leaves: certificate and key; read by `bodega` alone
DIR/successor.pem     will sign them, as soon as everybody has had time to read authorities.pem
DIR/order.pem, …      a workload's leaf: certificate and key

A leaf carries `spiffe://bodega/order`, by which servers know who calls, and the names `order.bodega` and
`localhost`, by which callers know whom they reach. Certificate and key share a file so that both are replaced
in one step: whoever reads at any moment has a pair that fits.
"""

import ipaddress
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.chassis.identity.workload import server_name, spiffe_id
from services.cli.data_folder import SERVICES, write_whole

WORKLOADS: Final = (*SERVICES, "gateway", "operator", "nats")
"""Who gets a leaf; `operator` is the command line."""

LEAF_LIVES: Final = timedelta(hours=24)
LEAF_RENEWED_BEFORE: Final = timedelta(hours=16)
"""Renewed after a third of its life, so that there is time to notice that renewing fails."""

AUTHORITY_LIVES: Final = timedelta(days=365)
AUTHORITY_REPLACED_BEFORE: Final = timedelta(days=30)
"""Longer than a leaf lives: the old one is trusted until the last of its leaves is gone."""

SUCCESSOR_KNOWN_AFTER: Final = timedelta(minutes=1)
"""By then whoever runs has read the authorities again; programs look every second."""

CLOCKS_DIFFER: Final = timedelta(minutes=5)  # between whoever signs and whoever checks

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


class NotOurs(Exception):
    """{path} is not what `bodega` wrote there; remove the folder and all certificates are made anew."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(type(self).__doc__).format(path=path))


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def read(cls, path: Path) -> "Signed | None":
        """None if there is no such file. Raises NotOurs, and OSError."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            key = serialization.load_pem_private_key(content, None)
            certificate = x509.load_pem_x509_certificate(content)
        except ValueError:
            raise NotOurs(path) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise NotOurs(path)
        return cls(certificate, key)

    def write(self, path: Path) -> None:
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_whole(path, _pem(self.certificate) + key)

    def ends_within(self, time: timedelta, now: datetime) -> bool:
        return now + time >= self.certificate.not_valid_after_utc

    def signed(self, leaf: "Signed") -> bool:
        """Whether that one carries our signature."""
        try:
            leaf.certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def authority(now: datetime) -> Signed:
    """A new authority, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Of its own name: while two authorities live, nobody takes the one for the other.
    name = _name(f"Bodega throw-away authority {secrets.token_hex(8)}")
    certificate = (
        _begun(name, name, key, now, AUTHORITY_LIVES)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Signed(certificate, key)


def leaf(
    signer: Signed, workload: str, now: datetime, *, hosts: Iterable[str] = (), lives: timedelta = LEAF_LIVES
) -> Signed:
    """A workload's own certificate; `hosts` are further names and addresses by which it is called."""
    key = ec.generate_private_key(ec.SECP256R1())  # what gRPC, NATS, Envoy and browsers all take
    both = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    certificate = (
        _begun(_name(workload), signer.certificate.subject, key, now, lives)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(workload, hosts)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False
        )
        .sign(signer.key, hashes.SHA256())
    )
    return Signed(certificate, key)


class Certificates:
    """A set of them in a folder. Making one touches nothing."""

    def __init__(self, folder: Path, *, hosts: Iterable[str] = ()) -> None:
        self.folder = folder
        self.authorities = folder / "authorities.pem"
        self._authority = folder / "authority.pem"
        self._successor = folder / "successor.pem"
        self._hosts = tuple(hosts)

    def of(self, workload: str) -> Path:
        """The file with a workload's certificate and key."""
        return self.folder / f"{workload}.pem"

    def renew(self, now: datetime | None = None) -> list[str]:
        """Makes what is missing or will end soon; the workloads that have a new leaf.

        To be called now and then: a new authority begins to sign a call after the one that told of it.
        Raises NotOurs, and OSError.
        """
        now = now or datetime.now(UTC)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        signer = self._signer(now)
        return [workload for workload in WORKLOADS if self._renewed(workload, signer, now)]

    def replace_authority(self, now: datetime | None = None) -> None:
        """Names a successor to the authority, for `renew` to bring in; both are trusted meanwhile."""
        now = now or datetime.now(UTC)
        successor = authority(now)
        self._welcome(successor, now)
        successor.write(self._successor)

    def trust(self, authorities: Iterable[x509.Certificate]) -> None:
        """Whom everybody trusts from now on."""
        write_whole(self.authorities, b"".join(map(_pem, authorities)))

    def _signer(self, now: datetime) -> Signed:
        present, successor = Signed.read(self._authority), Signed.read(self._successor)
        if present is None or present.ends_within(LEAF_LIVES, now):
            return self._begin(now)
        if successor is None:
            if present.ends_within(AUTHORITY_REPLACED_BEFORE, now):
                self.replace_authority(now)
            return present
        if now < successor.certificate.not_valid_before_utc + CLOCKS_DIFFER + SUCCESSOR_KNOWN_AFTER:
            return present
        self._successor.replace(self._authority)
        return successor

    def _begin(self, now: datetime) -> Signed:
        """There is no authority whose leaves would live: nothing runs that could be disturbed."""
        first = authority(now)
        self._welcome(first, now)
        first.write(self._authority)
        self._successor.unlink(missing_ok=True)
        return first

    def _welcome(self, newcomer: Signed, now: datetime) -> None:
        """It is trusted beside those that have not ended."""
        others = [one for one in self._trusted() if one.not_valid_after_utc > now]
        self.trust([newcomer.certificate, *others])

    def _trusted(self) -> list[x509.Certificate]:
        try:
            return x509.load_pem_x509_certificates(self.authorities.read_bytes())
        except FileNotFoundError:
            return []
        except ValueError:
            raise NotOurs(self.authorities) from None

    def _renewed(self, workload: str, signer: Signed, now: datetime) -> bool:
        path = self.of(workload)
        present = Signed.read(path)
        if present and signer.signed(present) and not present.ends_within(LEAF_RENEWED_BEFORE, now):
            return False
        leaf(signer, workload, now, hosts=self._hosts).write(path)
        return True


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    lives: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + lives)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _names(workload: str, hosts: Iterable[str]) -> Iterator[x509.GeneralName]:
    yield x509.UniformResourceIdentifier(spiffe_id(workload))
    for host in dict.fromkeys((server_name(workload), *_LOCAL, *hosts)):
        try:
            yield x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            yield x509.DNSName(host)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
