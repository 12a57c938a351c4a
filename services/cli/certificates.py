"""The certificates by which the programs of a shop know each other: an authority, and a leaf a workload.

DIR/authority/signer.pem        signs leaves: certificate and key; for `bodega` alone
DIR/authority/successor.pem     will sign them, as soon as everybody has had time to hear of it
DIR/authority/authorities.pem   whom everybody trusts
DIR/order/authorities.pem       the same, where the order service may read it
DIR/order/certificate.pem       its leaf: certificate and key

A leaf carries `spiffe://bodega/order`, by which servers know who calls, and the names `order.bodega` and
`localhost`, by which callers know whom they reach. Certificate and key share a file so that both are replaced
in one step: whoever reads at any moment has a pair that fits. Each workload has a folder of its own, so that
a container can be given that one and no other's key.
"""

import ipaddress
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.chassis.identity.workload import server_name, spiffe_id
from services.cli.data_folder import GATEWAY, NATS, OPERATOR, SERVICES, write_whole

if TYPE_CHECKING:
    from services.chassis.tls import TlsFiles

CERTIFICATE: Final = "certificate.pem"
AUTHORITIES: Final = "authorities.pem"

WORKLOADS: Final = (*SERVICES, GATEWAY, OPERATOR, NATS, "postgres")
"""Who gets a leaf."""

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
        write_whole(path, bundle(self.certificate) + key)

    @property
    def begins(self) -> datetime:
        """When it was made."""
        return self.certificate.not_valid_before_utc + CLOCKS_DIFFER

    def ends_within(self, time: timedelta, now: datetime) -> bool:
        return now + time >= self.certificate.not_valid_after_utc

    def has_signed(self, leaf: "Signed") -> bool:
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
        self._authorities = folder / "authority" / AUTHORITIES
        self._signer = folder / "authority" / "signer.pem"
        self._successor = folder / "authority" / "successor.pem"
        self._hosts = tuple(hosts)

    @property
    def is_begun(self) -> bool:
        """Whether there is an authority."""
        return self._signer.exists()

    def of(self, workload: str) -> Path:
        """The file with a workload's certificate and key."""
        return self.folder / workload / CERTIFICATE

    def authorities(self, workload: str) -> Path:
        """The file with those whom a workload trusts."""
        return self.folder / workload / AUTHORITIES

    def renew(self, now: datetime | None = None) -> list[str]:
        """Makes what is missing or will end soon; the workloads that were given something.

        To be called now and then: a new authority begins to sign a call after the one that told of it.
        Raises NotOurs, and OSError.
        """
        now = now or datetime.now(UTC)
        for name in ("authority", *WORKLOADS):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        signer = self._present_signer(now)
        return [workload for workload in WORKLOADS if self._is_given(workload, signer, now)]

    def replace_authority(self, now: datetime | None = None) -> None:
        """Names a successor, for `renew` to bring in; both are trusted meanwhile. Needs an authority."""
        now = now or datetime.now(UTC)
        successor = authority(now)
        self._trust(successor, now)
        successor.write(self._successor)

    def _present_signer(self, now: datetime) -> Signed:
        present, successor = Signed.read(self._signer), Signed.read(self._successor)
        if present is None or present.ends_within(LEAF_LIVES, now):
            return self._begin(now)
        if successor is None:
            if present.ends_within(AUTHORITY_REPLACED_BEFORE, now):
                self.replace_authority(now)
            return present
        if now < successor.begins + SUCCESSOR_KNOWN_AFTER:
            return present
        self._successor.replace(self._signer)
        return successor

    def _begin(self, now: datetime) -> Signed:
        """There is no authority whose leaves would live: nobody trusts anybody yet, or any more."""
        first = authority(now)
        self._trust(first, now)
        first.write(self._signer)
        self._successor.unlink(missing_ok=True)
        return first

    def _trust(self, newcomer: Signed, now: datetime) -> None:
        """Everybody is to trust it, beside those that have not ended."""
        others = [one for one in self._trusted() if one.not_valid_after_utc > now]
        write_whole(self._authorities, bundle(newcomer.certificate, *others))

    def _trusted(self) -> list[x509.Certificate]:
        try:
            return x509.load_pem_x509_certificates(self._authorities.read_bytes())
        except FileNotFoundError:
            return []
        except ValueError:
            raise NotOurs(self._authorities) from None

    def _is_given(self, workload: str, signer: Signed, now: datetime) -> bool:
        trusted = self._authorities.read_bytes()
        path = self.authorities(workload)
        is_new = not path.exists() or path.read_bytes() != trusted
        if is_new:
            write_whole(path, trusted)
        present = Signed.read(self.of(workload))
        if present and signer.has_signed(present) and not present.ends_within(LEAF_RENEWED_BEFORE, now):
            return is_new
        leaf(signer, workload, now, hosts=self._hosts).write(self.of(workload))
        return True


def papers(folder: Path) -> "TlsFiles":
    """What is in a workload's own folder, for whoever serves or calls as that workload."""
    from services.chassis.tls import TlsFiles  # noqa: PLC0415 (grpc, which who renews can do without)

    return TlsFiles(certificate=folder / CERTIFICATE, authorities=folder / AUTHORITIES)


def bundle(*certificates: x509.Certificate) -> bytes:
    """As PEM."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


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
