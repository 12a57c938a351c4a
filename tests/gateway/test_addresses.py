"""Whose word for an address is taken."""

import pytest

from gateway.addresses import FORWARDED, FORWARDED_FOR, Addresses
from services.chassis.networks import BadNetwork

OURS = ("10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # not one of ours: anybody may write that
        ("10.1.1.1", None, "10.1.1.1"),
        ("10.1.1.1", "198.51.100.1", "198.51.100.1"),
        ("10.1.1.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),  # what the client wrote itself
        ("10.1.1.1", "6.6.6.6, 198.51.100.1, 10.2.2.2", "198.51.100.1"),
        ("10.1.1.1", "198.51.100.1, unknown", "10.1.1.1"),
        ("10.1.1.1", "unknown, 10.2.2.2", "10.2.2.2"),
        ("10.1.1.1", "", "10.1.1.1"),
        ("10.1.1.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.1.1.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("fd00::1", "2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:10.1.1.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("", "198.51.100.1", ""),
    ],
)
def test_an_address_is_as_far_away_as_our_own_proxies_say(
    peer: str, forwarded: str | None, found: str
) -> None:
    given = None if forwarded is None else forwarded.encode()
    assert Addresses(OURS).of(peer, given) == found


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        ("for=198.51.100.1", "198.51.100.1"),
        ("for=6.6.6.6, For=198.51.100.1;proto=https;by=10.1.1.1", "198.51.100.1"),
        ('proto=https;for="[2001:db8::1]:4711"', "2001:db8::1"),
        ("for=_hidden", "10.1.1.1"),
        ("for=198.51.100.1, proto=https", "10.1.1.1"),
        ("198.51.100.1", "10.1.1.1"),
    ],
)
def test_proxies_may_speak_rfc_7239(forwarded: str, found: str) -> None:
    addresses = Addresses(OURS, header=FORWARDED)
    assert addresses.of("10.1.1.1", forwarded.encode()) == found


def test_nobody_is_believed_unless_told_so() -> None:
    addresses = Addresses()
    assert addresses.of("127.0.0.1", b"6.6.6.6") == "127.0.0.1"
    assert addresses.header == FORWARDED_FOR.encode()


def test_a_chain_without_end_is_not_followed() -> None:
    assert Addresses(OURS).of("10.1.1.1", b"10.9.9.9, " * 5000 + b"10.2.2.2") == "10.9.9.9"


@pytest.mark.parametrize("network", ["10.0.0.1/8", "ten", ""])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(BadNetwork):
        Addresses([network])
