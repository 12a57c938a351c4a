"""What accepting an order asks of user and catalogue: may they buy, and what does it cost?"""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Protocol, TypeVar

import grpc
from bodega.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from bodega.user.v1 import user_pb2, user_pb2_grpc

from services.chassis import status, wire
from services.kernel import errors
from services.order import refusals

T = TypeVar("T")


class NeighbourUnavailable(errors.Unavailable):
    """The {neighbour} service does not answer right now; nothing was ordered."""


class Wanted(Protocol):
    """As much of a requested line as is needed to look its product up."""

    @property
    def product_id(self) -> str: ...


class Neighbours:
    """User and catalogue, as far as an order needs them before it is accepted."""

    def __init__(
        self, users: user_pb2_grpc.UserServiceStub, catalog: inventory_pb2_grpc.CatalogServiceStub
    ) -> None:
        self._users = users
        self._catalog = catalog

    async def buyer_and_products(
        self, user_id: str, lines: Iterable[Wanted]
    ) -> tuple[user_pb2.User | None, list[inventory_pb2.Product]]:
        """The account, None if there is none, and those of the products that exist; asked side by side.

        Raises NeighbourUnavailable if one of them does not answer.
        """
        product_ids = list(dict.fromkeys(wire.uuid_key(line.product_id) for line in lines))
        user, products = await asyncio.gather(
            _answer("user", self._users.GetUser(user_pb2.GetUserRequest(user_id=user_id))),
            _answer(
                "inventory",
                self._catalog.BatchGetProducts(
                    inventory_pb2.BatchGetProductsRequest(product_ids=product_ids)
                ),
            ),
        )
        return user, list(products.products) if products else []


async def _answer(neighbour: str, call: Awaitable[T]) -> T | None:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if status.reason(error) == "USER_NOT_FOUND":
            return None
        raise NeighbourUnavailable(neighbour=neighbour) from error


def may_buy(user_id: str, user: user_pb2.User | None) -> None:
    """Raises refusals.BuyerNotFound or UserNotActive unless the account may buy."""
    if user is None:
        raise refusals.BuyerNotFound(user_id=user_id)
    if user.state != user_pb2.User.STATE_ACTIVE:
        state = user_pb2.User.State.Name(user.state).removeprefix("STATE_")
        raise refusals.UserNotActive(user_id=user_id, state=state)
