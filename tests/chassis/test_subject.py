"""What of a message may be written down."""

from typing import Any

import pytest
from bodega.inventory.v1 import inventory_pb2
from bodega.order.v1 import order_pb2
from bodega.policy.v1 import policy_pb2
from bodega.user.v1 import user_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.chassis import contract
from services.chassis.redaction import is_secret
from services.chassis.subject import CHARS_MAX, subject

SECRET = "s3cret"
REQUESTS = {
    method.path: method.request_type
    for method in contract.methods(user_pb2.DESCRIPTOR, inventory_pb2.DESCRIPTOR, order_pb2.DESCRIPTOR)
}


def test_ids_and_choices_are_named_and_nothing_else() -> None:
    cancel = order_pb2.CancelOrderRequest(order_id="o", reason="Ada asked for it", request_id="r")
    assert subject(cancel) == {"order_id": "o"}
    grant = user_pb2.GrantRoleRequest(user_id="u", role=policy_pb2.ROLE_ADMIN, request_id="r")
    assert subject(grant) == {"user_id": "u", "role": "ROLE_ADMIN"}


def test_ids_inside_are_named_by_their_path() -> None:
    update = user_pb2.UpdateUserRequest(user=user_pb2.User(user_id="u", email="a@b.org", username="ada"))
    assert subject(update) == {"user.user_id": "u"}


def test_several_ids_stand_in_one_place() -> None:
    assert subject(inventory_pb2.BatchGetProductsRequest(product_ids=["a", "b"])) == {"product_ids": "a,b"}


def test_an_id_that_is_none_is_cut_short() -> None:
    assert len(subject(order_pb2.CancelOrderRequest(order_id="x" * 5000))["order_id"]) == CHARS_MAX


@pytest.mark.parametrize("kind", REQUESTS.values(), ids=REQUESTS)
def test_no_secret_of_any_request_is_part_of_it(kind: type[Message]) -> None:
    request = kind()
    _fill(request, depth=4)
    assert SECRET not in str(subject(request))


def _fill(message: Message, depth: int) -> None:
    """Every text that the contract calls secret, and so all that is in a secret message, says so."""
    field: Any
    for field in message.DESCRIPTOR.fields:
        if is_secret(field) and field.type == FieldDescriptor.TYPE_STRING:
            value = [SECRET] if field.is_repeated else SECRET
            message.MergeFrom(type(message)(**{field.name: value}))
        elif field.message_type is not None and not field.is_repeated and depth:
            inner = message_factory.GetMessageClass(field.message_type)()
            _fill(inner, depth - 1)
            getattr(message, field.name).CopyFrom(inner)
