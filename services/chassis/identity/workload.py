"""Workloads: programs of the shop, known by the certificate they connect with (SPIFFE's naming).

spiffe://bodega/order    in the certificate of the order service: who it is when it calls
order.bodega             in the same certificate: whom its callers expect to reach
"""

import re
from typing import Any, Final

TRUST_DOMAIN: Final = "bodega"

OPERATOR: Final = "operator"
"""Whoever runs the shop, at its command line: a workload that is a person."""

_VERSION: Final = re.compile(r"\.v\d+\w*$")
_SPIFFE_ID: Final = "peer_spiffe_id"  # as grpc names it in the authentication context
_PREFIX: Final = f"spiffe://{TRUST_DOMAIN}/".encode()


def spiffe_id(workload: str) -> str:
    return f"spiffe://{TRUST_DOMAIN}/{workload}"


def server_name(workload: str) -> str:
    """The name that callers of a workload verify, wherever it runs."""
    return f"{workload}.{TRUST_DOMAIN}"


def workload_serving(service: str) -> str:
    """Who serves `bodega.order.v1.OrderService`: `order`, as packages are named; empty without a package."""
    package = service.rpartition(".")[0]
    return _VERSION.sub("", package).rpartition(".")[2]


def workload_of(context: Any) -> str:
    """The workload that makes a call, e.g. `order`; empty if the connection says nothing of one.

    Only the mesh port asks for certificates, so that on the guests' port nobody is a workload.
    """
    found = context.auth_context().get(_SPIFFE_ID, ())
    if len(found) != 1 or not found[0].startswith(_PREFIX):
        return ""
    return str(found[0][len(_PREFIX) :].decode())
