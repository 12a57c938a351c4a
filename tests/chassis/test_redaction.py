"""Messages without their secrets."""

from bodega.order.v1 import order_pb2
from bodega.user.v1 import user_pb2

from services.chassis.redaction import redacted


def test_secret_fields_go_and_others_stay() -> None:
    user = user_pb2.User(user_id="u", email="someone@example.org", username="someone")

    assert redacted(user) == user_pb2.User(user_id="u", username="someone")
    assert user.email == "someone@example.org"


def test_secrets_inside_lists_go_too() -> None:
    users = [user_pb2.User(user_id=str(n), email="a@b.org") for n in range(3)]
    listed = user_pb2.ListUsersResponse(users=users, next_page_token="t")

    assert redacted(listed) == user_pb2.ListUsersResponse(
        users=[user_pb2.User(user_id=str(n)) for n in range(3)], next_page_token="t"
    )


def test_messages_that_cannot_have_secrets_are_not_copied() -> None:
    order = order_pb2.Order(order_id="o")

    assert redacted(order) is order
