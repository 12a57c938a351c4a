"""Every RPC by every kind of caller: let in exactly where the contract says so.

What is expected is worked out here from the `access` option anew, not by the code that is tested. Requests
are empty but for the owner: whoever is let in meets the validation next, or the handler; others never do.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from bodega.policy.v1 import policy_pb2

from services.chassis import status
from services.chassis.contract import Method
from services.chassis.server.access import Access
from services.chassis.testing import FakeClock, serving
from tests.access import contracts
from tests.chassis.identity.issuer import TestIssuer

ADA = "0199a1b2-0000-7000-8000-00000000000a"
BOB = "0199a1b2-0000-7000-8000-00000000000b"
WORKLOADS = ("user", "inventory", "order", "payment", "notification", "gateway", "operator", "stranger")

# Not valid; or let in on condition, and nobody here asks whose it is.
LET_IN = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
REFUSALS = {"NOT_SIGNED_IN", "INVALID_TOKEN", "NOT_ALLOWED", "NOT_FOUND"}


@dataclass(frozen=True)
class Who:
    """A kind of caller; the things asked for are Ada's."""

    user_id: str = ""
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] | None = None
    workload: str = ""


CALLERS = {
    "nobody": Who(),
    "the owner": Who(ADA, ("customer",)),
    "another customer": Who(BOB, ("customer",)),
    "support": Who(BOB, ("customer", "support")),
    "warehouse": Who(BOB, ("customer", "warehouse")),
    "an administrator": Who(BOB, ("customer", "admin")),
    "someone without any role": Who(BOB),
    "the owner's key without scopes": Who(ADA, ("customer",), ()),
    "the owner's key for another area": Who(ADA, ("customer",), ("elsewhere:read", "elsewhere:write")),
    "the owner's key to read": Who(
        ADA, ("customer",), tuple(f"{area}:read" for area in ("user", "order", "payment", "inventory"))
    ),
    "an administrator's key to read orders": Who(BOB, ("admin",), ("order:read",)),
    **{f"workload {name}": Who(workload=name) for name in WORKLOADS},
    "workload gateway with the owner's token": Who(ADA, ("customer",), workload="gateway"),
    "workload order with a customer's token": Who(BOB, ("customer",), workload="order"),
}


def is_let_in(method: Method, who: Who) -> bool:
    """What the contract says, spelt out."""
    assert method.policy is not None
    access = method.policy.access
    if access.public or who.workload in access.workloads:
        return True
    if not who.user_id:
        return False
    if who.scopes is not None:
        area = method.path.split(".")[1]
        reads = method.descriptor.GetOptions().idempotency_level == 1
        if f"{area}:{'read' if reads else 'write'}" not in who.scopes:
            return False
    roles = {policy_pb2.Role.Name(role).removeprefix("ROLE_").lower() for role in access.roles}
    owns = bool(access.owner) and who.user_id == ADA
    # Whose the thing is, the service finds out; here there is nothing.
    return access.signed_in or owns or access.owner_of_resource or bool(roles & set(who.roles))


def adas(method: Method) -> Any:
    """A request for something of Ada's, as far as the request says so."""
    request = method.request_type()
    assert method.policy is not None
    if path := method.policy.access.owner:
        *outer, last = path.split(".")
        target: Any = request
        for name in outer:
            target = getattr(target, name)
        setattr(target, last, ADA)
    return request


@pytest.fixture(scope="module")
def issuer() -> TestIssuer:
    return TestIssuer(FakeClock())


@pytest.fixture
async def channel(issuer: TestIssuer) -> AsyncIterator[Any]:
    def workload_of(context: Any) -> str:
        return str(dict(context.invocation_metadata()).get("x-test-workload", ""))

    gate = Access(await issuer.trusted(), workload_of)
    async with serving(*contracts.behind_open_doors(), files=contracts.files(), access=gate) as made:
        yield made


async def refusal(channel: Any, method: Method, metadata: Any) -> str | None:
    """The reason for which the gate refused; None if it let the call in."""
    stub = (channel.raw.unary_stream if method.is_stream else channel.raw.unary_unary)(
        method.path, method.request_type.SerializeToString, method.reply_type.FromString
    )
    call = stub(adas(method), metadata=metadata, timeout=10)
    try:
        if method.is_stream:
            _ = [reply async for reply in call]
        else:
            await call
    except grpc.aio.AioRpcError as error:
        reason = status.reason(error)
        if reason in REFUSALS:
            return reason
        if error.code() not in LET_IN:
            raise
    return None


@pytest.mark.parametrize("who", CALLERS.values(), ids=CALLERS)
async def test_each_caller_gets_in_exactly_where_the_contract_says_so(
    channel: Any, issuer: TestIssuer, who: Who
) -> None:
    metadata = [("x-test-workload", who.workload)]
    if who.user_id:
        token = issuer.token(sub=who.user_id, roles=list(who.roles), scopes=who.scopes and list(who.scopes))
        if who.scopes == ():
            token = issuer.token(sub=who.user_id, roles=list(who.roles), scopes=[])
        metadata.append(("authorization", f"Bearer {token}"))
    wrong = []
    for method in contracts.methods():
        refused = await refusal(channel, method, metadata)
        if is_let_in(method, who) == (refused is not None):
            wrong.append(f"{method.path}: {refused or 'let in'}")
        if refused is not None and not who.user_id and not who.workload:
            assert refused == "NOT_SIGNED_IN", method.path
    assert wrong == []


def test_every_rpc_of_the_house_is_looked_at() -> None:
    found = {method.path for method in contracts.methods()}
    assert len(found) > 60
    assert "/bodega.order.v1.OrderService/CreateOrder" in found


def test_nobody_but_the_owner_has_owner_fields_of_their_own_choosing() -> None:
    """Where a contract names an owner and lets in everyone anyway, the owner would be a decoration."""
    for method in contracts.methods():
        assert method.policy is not None
        access = method.policy.access
        assert not (access.owner and (access.public or access.signed_in)), method.path
