"""Who is let in: the rules of a contract against every kind of caller."""

import pytest
from bodega.order.v1 import order_pb2
from bodega.policy.v1 import policy_pb2
from bodega.user.v1 import user_pb2

from services.chassis import contract
from services.chassis.contract import ContractError
from services.chassis.identity.caller import NOBODY, Caller
from services.chassis.policy import access
from services.chassis.policy.access import Admitted, NotAllowed, NotFound, NotSignedIn, Rule
from tests.chassis.playground import METHODS

ADA = Caller(user_id="ada", roles=frozenset({"customer"}))
BOB = Caller(user_id="bob", roles=frozenset({"customer"}))
SUPPORT = Caller(user_id="sue", roles=frozenset({"customer", "support"}))
READER = Caller(user_id="ada", roles=frozenset({"customer"}), scopes=frozenset({"order:read"}))
SCOPELESS = Caller(user_id="sue", roles=frozenset({"support"}), scopes=frozenset())


def made(**options: object) -> Rule:
    none: dict[str, object] = {
        "public": False,
        "signed_in": False,
        "owner": None,
        "owner_of_resource": False,
        "roles": frozenset(),
        "workloads": frozenset(),
        "scope": "order:read",
        "changes": False,
    }
    return Rule(**none | options)  # type: ignore[arg-type]


PUBLIC = made(public=True)
PUBLIC_OR_SUPPORT = made(public=True, roles=frozenset({"support"}))
SIGNED_IN = made(signed_in=True)
OWNER = made(owner=lambda request: request)
OWNER_OR_SUPPORT = made(owner=lambda request: request, roles=frozenset({"support"}))
OWNER_LATER = made(owner_of_resource=True, roles=frozenset({"support"}))
ROLE = made(roles=frozenset({"support"}))
WORKLOAD = made(workloads=frozenset({"order"}))
NOTHING = made()

AS_USER, AS_GUEST, AS_STAFF, AS_WORKLOAD, IF_OWNER = Admitted


@pytest.mark.parametrize(
    ("rule", "owner", "user", "workload", "expected"),
    [
        (PUBLIC, "", NOBODY, "", AS_USER),
        (PUBLIC, "", ADA, "", AS_USER),
        (PUBLIC, "", SCOPELESS, "", AS_USER),
        (PUBLIC_OR_SUPPORT, "", NOBODY, "", AS_GUEST),
        (PUBLIC_OR_SUPPORT, "", NOBODY, "order", AS_GUEST),
        (PUBLIC_OR_SUPPORT, "", ADA, "", AS_GUEST),
        (PUBLIC_OR_SUPPORT, "", SUPPORT, "", AS_STAFF),
        (PUBLIC_OR_SUPPORT, "", SCOPELESS, "", AS_GUEST),
        (SIGNED_IN, "", NOBODY, "", NotSignedIn),
        (SIGNED_IN, "", ADA, "", AS_USER),
        (SIGNED_IN, "", SCOPELESS, "", NotAllowed),
        (SIGNED_IN, "", NOBODY, "order", NotAllowed),
        (OWNER, "ada", NOBODY, "", NotSignedIn),
        (OWNER, "ada", ADA, "", AS_USER),
        (OWNER, "ADA", ADA, "", AS_USER),
        (OWNER, "ada", READER, "", AS_USER),
        (OWNER, "ada", BOB, "", NotFound),
        (OWNER, "ada", SUPPORT, "", NotFound),
        (OWNER, "", ADA, "", NotAllowed),
        (OWNER, "", NOBODY, "", NotSignedIn),
        (OWNER_OR_SUPPORT, "ada", SUPPORT, "", AS_STAFF),
        (OWNER_OR_SUPPORT, "", SUPPORT, "", AS_STAFF),
        (OWNER_OR_SUPPORT, "sue", SUPPORT, "", AS_USER),
        (OWNER_OR_SUPPORT, "ada", SCOPELESS, "", NotAllowed),
        (OWNER_LATER, "", NOBODY, "", NotSignedIn),
        (OWNER_LATER, "", ADA, "", IF_OWNER),
        (OWNER_LATER, "", SUPPORT, "", AS_STAFF),
        (OWNER_LATER, "", SCOPELESS, "", NotAllowed),
        (ROLE, "", NOBODY, "", NotSignedIn),
        (ROLE, "", ADA, "", NotAllowed),
        (ROLE, "", SUPPORT, "", AS_STAFF),
        (ROLE, "", SUPPORT, "gateway", AS_STAFF),
        (WORKLOAD, "", NOBODY, "", NotSignedIn),
        (WORKLOAD, "", SUPPORT, "", NotAllowed),
        (WORKLOAD, "", NOBODY, "gateway", NotAllowed),
        (WORKLOAD, "", SUPPORT, "gateway", NotAllowed),
        (WORKLOAD, "", NOBODY, "order", AS_WORKLOAD),
        (WORKLOAD, "", ADA, "order", AS_WORKLOAD),
        (NOTHING, "", NOBODY, "", NotSignedIn),
        (NOTHING, "", SUPPORT, "", NotAllowed),
        (NOTHING, "", NOBODY, "order", NotAllowed),
    ],
)
def test_a_caller_gets_in_exactly_where_a_rule_says_so(
    rule: Rule, owner: str, user: Caller, workload: str, expected: Admitted | type[Exception]
) -> None:
    if isinstance(expected, Admitted):
        assert rule.admit(owner, user, workload) is expected
    else:
        with pytest.raises(expected):
            rule.admit(owner, user, workload)


def test_a_rule_is_read_from_the_contract() -> None:
    methods = contract.by_path(user_pb2.DESCRIPTOR, order_pb2.DESCRIPTOR)
    get = access.rule(methods["/bodega.user.v1.UserService/GetUser"])
    assert get.owner is not None
    assert get.owner(user_pb2.GetUserRequest(user_id="u")) == "u"
    assert get.roles == {"support", "admin"}
    assert "order" in get.workloads
    assert (get.scope, get.changes) == ("user:read", False)
    update = access.rule(methods["/bodega.user.v1.UserService/UpdateUser"])
    assert update.owner is not None
    assert update.owner(user_pb2.UpdateUserRequest(user=user_pb2.User(user_id="u"))) == "u"
    assert (update.scope, update.changes) == ("user:write", True)


def test_a_method_without_a_policy_cannot_be_served() -> None:
    with pytest.raises(ContractError, match="no access policy"):
        access.rule(METHODS["Read"])


def test_an_owner_field_that_is_not_there_cannot_be_served() -> None:
    policy = policy_pb2.MethodPolicy(access=policy_pb2.Access(owner="lines.user_id"))
    read = METHODS["Read"]
    wrong = contract.Method(read.path, read.descriptor, read.request_type, read.reply_type, policy)
    with pytest.raises(ContractError, match="name the owner"):
        access.rule(wrong)
