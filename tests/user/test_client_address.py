from typing import Any

import pytest

from services.user.client_address import client_site

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
    ("call", "site"),
    [
        (Call(f"ipv4:{EDGE}:4711", "gateway", ("x", "y"), SAID), ADA),
        (Call(f"ipv4:{EDGE}:4711", "gateway"), ""),
        (Call(f"ipv4:{EDGE}:4711", "order", SAID), EDGE),
        (Call(f"ipv4:{EDGE}:4711", "", SAID), EDGE),
        (Call("ipv6:%5B2001:db8::1%5D:4711", ""), "2001:db8::/64"),
        (Call("ipv6:%5B::ffff:203.0.113.7%5D:4711", ""), ADA),
        (Call("unix:/run/socket", ""), "unix:/run/socket"),
    ],
)
def test_a_call_comes_from_its_peer_unless_the_edge_passes_it_on(call: Any, site: str) -> None:
    assert client_site(call) == site
