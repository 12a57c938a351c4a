"""Workloads and their names."""

import pytest

from services.chassis.identity.workload import server_name, spiffe_id, workload_of, workload_serving


class Connection:
    """What a handler is told of one, by grpc's names."""

    def __init__(self, *ids: str) -> None:
        self._ids = [id_.encode() for id_ in ids]

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"transport_security_type": [b"ssl"], **({"peer_spiffe_id": self._ids} if self._ids else {})}


@pytest.mark.parametrize(
    ("service", "workload"),
    [
        ("bodega.order.v1.OrderService", "order"),
        ("bodega.order.v1beta1.OrderService", "order"),
        ("edge.v1.Shelves", "edge"),
        ("grpc.health.v1.Health", "health"),
        ("echo.Echo", "echo"),
        ("Echo", ""),
    ],
)
def test_a_service_belongs_to_the_workload_its_package_names(service: str, workload: str) -> None:
    assert workload_serving(service) == workload


@pytest.mark.parametrize(
    ("ids", "workload"),
    [
        ([], ""),
        ([spiffe_id("order")], "order"),
        (["spiffe://elsewhere/order"], ""),
        (["spiffe://bodega.example/order"], ""),
        ([spiffe_id("order"), spiffe_id("operator")], ""),
    ],
)
def test_a_caller_is_a_workload_by_one_name_in_our_domain(ids: list[str], workload: str) -> None:
    assert workload_of(Connection(*ids)) == workload


def test_servers_are_known_by_a_name_of_their_own() -> None:
    assert server_name("order") == "order.bodega"
