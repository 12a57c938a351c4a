"""A shop's certificates: made once, renewed in time, and an authority that is followed by another."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cli import certificates
from services.cli.certificates import (
    AUTHORITY_LIVES,
    AUTHORITY_REPLACED_BEFORE,
    LEAF_LIVES,
    LEAF_RENEWED_BEFORE,
    SUCCESSOR_KNOWN_AFTER,
    WORKLOADS,
    Certificates,
    NotOurs,
    Signed,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON = timedelta(minutes=1)


def leaf_of(made: Certificates, workload: str) -> Signed:
    leaf = Signed.read(made.of(workload))
    assert leaf is not None
    return leaf


def is_trusted(made: Certificates, workload: str, by: str, now: datetime) -> bool:
    """Whether `by` accepts the workload's certificate."""
    leaf = leaf_of(made, workload).certificate
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        return False
    for authority in x509.load_pem_x509_certificates(made.authorities(by).read_bytes()):
        if authority.subject == leaf.issuer and authority.not_valid_after_utc > now:
            leaf.verify_directly_issued_by(authority)
            return True
    return False


def test_every_workload_has_its_names_and_its_key_to_itself(tmp_path: Path) -> None:
    made = Certificates(tmp_path / "certificates", hosts=["order.shop.svc", "10.0.0.7"])
    assert made.renew(NOW) == list(WORKLOADS)
    leaf = leaf_of(made, "order").certificate
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://bodega/order"]
    assert names.get_values_for_type(x509.DNSName) == ["order.bodega", "localhost", "order.shop.svc"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "10.0.0.7"]
    for path in (tmp_path / "certificates").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert is_trusted(made, "order", "gateway", NOW)


def test_what_is_good_stays_as_it_is(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    made.renew(NOW)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.pem")}
    assert made.renew(NOW + LEAF_LIVES - LEAF_RENEWED_BEFORE - SOON) == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.pem")} == before


def test_leaves_are_renewed_long_before_they_end(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    made.renew(NOW)
    before = leaf_of(made, "order").certificate
    later = NOW + LEAF_LIVES - LEAF_RENEWED_BEFORE
    assert made.renew(later) == list(WORKLOADS)
    after = leaf_of(made, "order").certificate
    assert (before.issuer, before.serial_number) != (after.issuer, after.serial_number)
    assert after.not_valid_after_utc == later + LEAF_LIVES


def test_what_was_lost_is_made_again(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    made.renew(NOW)
    made.of("payment").unlink()
    made.authorities("user").unlink()
    assert made.renew(NOW) == ["user", "payment"]


def test_a_folder_from_last_year_begins_anew(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    made.renew(NOW)
    later = NOW + AUTHORITY_LIVES + SOON
    assert made.renew(later) == list(WORKLOADS)
    assert is_trusted(made, "order", "gateway", later)


def test_an_authority_signs_only_after_everybody_has_heard_of_it(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    made.renew(NOW)
    first = leaf_of(made, "order").certificate.issuer
    made.replace_authority(NOW)
    assert made.renew(NOW + SUCCESSOR_KNOWN_AFTER - timedelta(seconds=1)) == list(WORKLOADS)
    assert leaf_of(made, "order").certificate.issuer == first
    assert made.renew(NOW + SUCCESSOR_KNOWN_AFTER) == list(WORKLOADS)
    assert leaf_of(made, "order").certificate.issuer != first


@settings(max_examples=5)
@given(steps=st.lists(st.integers(min_value=1, max_value=8 * 60), min_size=12, max_size=16))
def test_whoever_reads_at_whatever_moment_trusts_everybody(
    steps: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    now = NOW
    made.renew(now)
    now += AUTHORITY_LIVES - AUTHORITY_REPLACED_BEFORE - LEAF_LIVES
    made.renew(now)  # the shop has run all the time
    issuers = set()
    for minutes in steps:
        old = leaf_of(made, "order").certificate
        now += timedelta(minutes=minutes)
        assert is_trusted(made, "order", "gateway", now)
        made.renew(now)
        issuers.add(leaf_of(made, "order").certificate.issuer)
        assert is_trusted(made, "order", "gateway", now)
        # and what was shown until now is still accepted
        trusted = x509.load_pem_x509_certificates(made.authorities("gateway").read_bytes())
        assert old.issuer in {authority.subject for authority in trusted}
    assert len(issuers) <= 2


@pytest.mark.parametrize(
    "name", ["authority/signer.pem", "authority/authorities.pem", "order/certificate.pem"]
)
def test_files_of_others_are_told_not_overwritten(tmp_path: Path, name: str) -> None:
    made = Certificates(tmp_path)
    made.renew(NOW)
    (tmp_path / name).write_text("something else")
    with pytest.raises(NotOurs, match=name):
        made.renew(NOW + AUTHORITY_LIVES - timedelta(days=1, minutes=1))
    assert (tmp_path / name).read_text() == "something else"


def test_a_key_of_another_certificate_is_not_ours(tmp_path: Path) -> None:
    one, other = certificates.authority(NOW), certificates.authority(NOW)
    Signed(one.certificate, other.key).write(tmp_path / "signer.pem")
    with pytest.raises(NotOurs):
        Signed.read(tmp_path / "signer.pem")
