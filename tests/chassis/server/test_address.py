from typing import Any

import pytest

from services.chassis.server.address import address_of, site

ADA, EDGE = "203.0.113.7", "10.0.0.1"


class Call:
    """As much of grpc's context as is looked at."""

    def __init__(self, peer: str, workload: str, *metadata: tuple[str, str]) -> None:
        self._peer = peer
        self._workload = workload
        self._metadata = metadata

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> Any:
        name = f"spiffe://bodega/{self._workload}".encode()
        return {"peer_spiffe_id": [name]} if self._workload else {}

    def invocation_metadata(self) -> Any:
        return self._metadata or None


SAID = ("x-bodega-client-address", ADA)


@pytest.mark.parametrize(
    ("call", "address"),
    [
        (Call(f"ipv4:{EDGE}:4711", "gateway", ("x", "y"), SAID), ADA),
        (Call(f"ipv4:{EDGE}:4711", "gateway"), ""),
        (Call(f"ipv4:{EDGE}:4711", "order", SAID), EDGE),
        (Call(f"ipv4:{EDGE}:4711", "", SAID), EDGE),
        (Call("ipv6:%5B2001:db8::1%5D:4711", ""), "2001:db8::1"),
        (Call("ipv6:%5B::ffff:203.0.113.7%5D:4711", ""), f"::ffff:{ADA}"),
        (Call("unix:/run/socket", ""), "unix:/run/socket"),
    ],
)
def test_a_call_comes_from_its_peer_unless_the_edge_passes_it_on(call: Any, address: str) -> None:
    assert address_of(call) == address


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:/run/socket", "unix:/run/socket"),
    ],
)
def test_a_site_is_an_address_or_the_network_its_owner_chooses_from(address: str, where: str) -> None:
    assert site(address) == where
