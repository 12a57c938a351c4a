"""Errors that say one thing in three ways: reason, message, metadata."""

import copy
import pickle

import pytest

from services.kernel import errors
from services.kernel.errors import DomainError


class OrderNotCancellable(errors.WrongState):
    """Order {order_id} is {state};
    only a pending or confirmed order
    can be cancelled.
    """


class HTTPHeaderTooLong(errors.TooMuch):
    """The header has {count} bytes."""


def test_name_docstring_and_arguments_are_reason_message_and_metadata() -> None:
    error = OrderNotCancellable(order_id="o-1", state="SHIPPED")

    assert error.reason == "ORDER_NOT_CANCELLABLE"
    assert (
        error.message
        == str(error)
        == "Order o-1 is SHIPPED; only a pending or confirmed order can be cancelled."
    )
    assert error.metadata == {"order_id": "o-1", "state": "SHIPPED"}


def test_metadata_is_text() -> None:
    assert HTTPHeaderTooLong(count=9000).metadata == {"count": "9000"}
    assert HTTPHeaderTooLong.reason == "HTTP_HEADER_TOO_LONG"


def test_a_message_that_lacks_its_figures_is_a_bug_told_at_once() -> None:
    with pytest.raises(KeyError):
        OrderNotCancellable(order_id="o-1")


def test_braces_in_a_figure_are_only_text() -> None:
    assert "{state}" in OrderNotCancellable(order_id="{state}", state="X").message


@pytest.mark.parametrize("category", [errors.Stale, errors.TooMuch, errors.Unavailable])
def test_passing_categories_are_not_definite(category: type[DomainError]) -> None:
    assert not category().definite


@pytest.mark.parametrize(
    "category",
    [
        errors.Invalid,
        errors.NotFound,
        errors.AlreadyExists,
        errors.WrongState,
        errors.Forbidden,
        errors.Unauthenticated,
    ],
)
def test_other_categories_are_definite(category: type[DomainError]) -> None:
    assert category().definite


def test_errors_can_be_copied_and_sent_between_processes() -> None:
    error = OrderNotCancellable(order_id="o-1", state="SHIPPED")

    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 (our own bytes)
        assert (type(twin), twin.metadata, twin.message) == (type(error), error.metadata, error.message)
