"""What belongs to someone else looks, to a customer, like what is not there: by every id of every RPC.

Each RPC that customers may call is called with a good request of Ada's in which one id is replaced: once by
Bob's, once by one that nobody has. The answers must not differ in anything but the id itself.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from services.chassis import status
from services.chassis.contract import Method
from services.cli.edge import new_id
from services.cli.endpoints import Endpoints
from services.cli.shopper import Shopper
from services.cli.staff import Staff
from tests.access import contracts

ANSWER_MAX_S = 15.0


@dataclass(frozen=True)
class Belongings:
    """The ids of what one customer has, by the names that contracts give such fields."""

    user_id: str
    order_id: str
    payment_id: str
    payment_method_id: str
    session_id: str
    api_key_id: str


NO_ONES_OWN: Final = frozenset({"product_id", "warehouse_id"})
"""Ids of what everybody may know."""

CHOSEN: Final = frozenset({("ProcessPayment", "order_id")})
"""An id that the caller makes up: there is nothing yet that it could be of."""

PUBLIC_BY_TOKEN: Final = frozenset({"ActivateUser"})
"""Asks for a secret besides; its own suite shows that all wrong ones get one answer."""

Template = Callable[[Belongings, str], dict[str, Any]]

# What makes a request good besides its ids; every RPC with ids that a customer may call is here.
TEMPLATES: Final[dict[str, Template]] = {
    "GetUser": lambda _own, _key: {},
    "UpdateUser": lambda own, _key: {
        "user": {"userId": own.user_id, "profile": {"languageCode": "de"}},
        "updateMask": "profile.languageCode",
    },
    "DeactivateUser": lambda _own, _key: {},
    "ChangePassword": lambda _own, _key: {"currentPassword": "not the one", "newPassword": "a new password"},
    "GetPreferences": lambda _own, _key: {},
    "UpdatePreferences": lambda _own, _key: {"preferences": {}},
    "RevokeUserSessions": lambda _own, _key: {},
    "ListSessions": lambda _own, _key: {},
    "CreateApiKey": lambda _own, _key: {"name": "till", "scopes": ["order:read"]},
    "ListApiKeys": lambda _own, _key: {},
    "RevokeApiKey": lambda _own, _key: {},
    "CreateOrder": lambda _own, product: {
        "lines": [{"productId": product, "quantity": 1}],
        "currency": "USD",
        "waitUntilSettled": True,
    },
    "GetOrder": lambda _own, _key: {},
    "ListOrders": lambda _own, _key: {},
    "ListOrderEvents": lambda _own, _key: {},
    "GetOrderDetails": lambda _own, _key: {},
    "WatchOrder": lambda _own, _key: {},
    "CancelOrder": lambda _own, _key: {"reason": "changed my mind"},
    "AddPaymentMethod": lambda _own, _key: {"providerToken": "tok_approve"},
    "ListPaymentMethods": lambda _own, _key: {},
    "RemovePaymentMethod": lambda _own, _key: {},
    "SetDefaultPaymentMethod": lambda _own, _key: {},
    "ProcessPayment": lambda _own, _key: {"amount": {"currencyCode": "USD", "units": "5"}},
    "GetPayment": lambda _own, _key: {},
    "ListPayments": lambda _own, _key: {},
    "ListTransactions": lambda _own, _key: {},
    "ListNotifications": lambda _own, _key: {},
}


def ids_of(method: Method) -> list[str]:
    """Paths of the request's ids that are someone's."""
    found = []
    for field in method.descriptor.input_type.fields:
        if field.message_type is not None and not field.is_repeated:
            inner = (part.name for part in field.message_type.fields)
            found += [f"{field.name}.{name}" for name in inner if name in Belongings.__annotations__]
        elif field.name.endswith("_id") and field.name != "request_id" and field.name not in NO_ONES_OWN:
            found.append(field.name)
    return found


def asked_by_customers() -> list[Method]:
    """The RPCs in which a customer could name what is another's."""
    found = []
    for method in contracts.methods():
        assert method.policy is not None
        access = method.policy.access
        if (access.owner or access.owner_of_resource or access.signed_in) and ids_of(method):
            found.append(method)
    return found


CASES = [
    pytest.param(method, path, id=f"{method.name}-{path}")
    for method in asked_by_customers()
    for path in ids_of(method)
    if (method.name, path) not in CHOSEN
]


def customer(shopper: Shopper, product: str) -> Belongings:
    """Someone with one of everything."""
    user_id = shopper.buyer()["userId"]
    card = shopper.payment_method(user_id)["paymentMethodId"]
    order = shopper.order(user_id, card, {product: 1})
    (session, *_) = shopper.ask("GET", f"/api/v1/users/{user_id}/sessions")["sessions"]
    body = {"name": "till", "scopes": ["order:read"]}
    key = shopper.ask("POST", f"/api/v1/users/{user_id}/api-keys", body=body)
    return Belongings(
        user_id,
        order["orderId"],
        order["paymentId"],
        card,
        session["sessionId"],
        key["apiKey"]["apiKeyId"],
    )


@dataclass(frozen=True)
class Scene:
    shop: Endpoints
    ada: Belongings
    bob: Belongings
    product: str
    authorization: str
    """Ada's."""


@pytest.fixture(scope="module")
def scene(shop: Endpoints, staff: Staff) -> Iterator[Scene]:
    with Shopper(shop, staff=staff) as shopper:
        product = shopper.product("Coffee beans", cents=500, on_hand=1000)["productId"]
        bob = customer(shopper, product)
        ada = customer(shopper, product)
        yield Scene(shop, ada, bob, product, shopper.signed_in.bearer(shop.gateway))


def request(method: Method, own: Belongings, product: str, path: str, value: str) -> Message:
    """A good request of its owner's, but for one id."""
    made: Any = method.request_type()
    json_format.ParseDict(TEMPLATES[method.name](own, product), made)
    for name in ids_of(method):
        _set(made, name, getattr(own, name.rpartition(".")[2], "") or new_id())
    _set(made, path, value)
    if method.takes_request_id:
        made.request_id = new_id()
    asked: Message = made
    return asked


def _set(message: Any, path: str, value: str) -> None:
    *outer, last = path.split(".")
    for name in outer:
        message = getattr(message, name)
    setattr(message, last, value)


async def answer(scene: Scene, method: Method, asked: Message, value: str) -> str:
    """Everything that the caller gets to see, with the id itself struck out."""
    async with grpc.aio.insecure_channel(scene.shop.services[method.path.split(".")[1]].grpc) as channel:
        make: Any = channel.unary_stream if method.is_stream else channel.unary_unary
        stub = make(method.path, method.request_type.SerializeToString, method.reply_type.FromString)
        call = stub(asked, metadata=(("authorization", scene.authorization),), timeout=ANSWER_MAX_S)
        try:
            reply = await anext(aiter(call)) if method.is_stream else await call
        except grpc.aio.AioRpcError as error:
            seen: Any = [error.code().name, status.reason(error), error.details(), status.metadata(error)]
        else:
            seen = _without_what_always_differs(json_format.MessageToDict(reply))
        finally:
            call.cancel()
    return json.dumps(seen, sort_keys=True).replace(value, "<id>")


def _without_what_always_differs(reply: Any) -> Any:
    differing = ("createTime", "updateTime", "orderId", "reservationId", "version")
    return {name: value for name, value in reply.items() if name not in differing}


@pytest.mark.parametrize(("method", "path"), CASES)
async def test_anothers_thing_looks_like_one_that_is_not_there(
    scene: Scene, method: Method, path: str
) -> None:
    if method.name in PUBLIC_BY_TOKEN:
        pytest.skip("asks for a secret besides")
    bobs, nobodys = getattr(scene.bob, path.rpartition(".")[2]), new_id()
    of_bobs = await answer(scene, method, request(method, scene.ada, scene.product, path, bobs), bobs)
    of_nobodys = await answer(
        scene, method, request(method, scene.ada, scene.product, path, nobodys), nobodys
    )
    assert of_bobs == of_nobodys


def test_every_rpc_that_customers_call_with_ids_is_tried() -> None:
    wanted = {method.name for method in asked_by_customers()} - PUBLIC_BY_TOKEN
    assert wanted <= TEMPLATES.keys()
    named = {path.rpartition(".")[2] for method in asked_by_customers() for path in ids_of(method)}
    assert named <= Belongings.__annotations__.keys()
