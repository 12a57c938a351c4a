"""Accounts to try things on, and how to read what came of them."""

from itertools import count
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from bodega.user.v1 import user_pb2 as pb
from bodega.user.v1.user_pb2_grpc import UserServiceStub
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest

from services.chassis import status
from services.chassis.storage.database import Store
from services.user.store import Transaction
from services.user.tables import outbox_rows

PASSWORD = "correct horse battery"
NOBODY = "00000000-0000-7000-8000-00000000dead"
numbers = count(1)


def registration(name: str = "ada", **changes: Any) -> pb.RegisterUserRequest:
    request = pb.RegisterUserRequest(
        email=f"{name}@example.com",
        username=name,
        password=PASSWORD,
        profile=pb.Profile(display_name="Ada Lovelace", phone_number="+441234567890", language_code="en-GB"),
        request_id=f"r{next(numbers)}",
    )
    for field, value in changes.items():
        setattr(request, field, value)
    return request


async def active(users: UserServiceStub, name: str = "ada") -> pb.User:
    user = await users.RegisterUser(registration(name))
    return await users.ActivateUser(pb.ActivateUserRequest(user_id=user.user_id))


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


async def reason(call: Any) -> tuple[grpc.StatusCode, str | None]:
    refused = await refusal(call)
    return refused.code(), status.reason(refused)


async def violated(call: Any) -> set[str]:
    refused = await refusal(call)
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = status.detail(refused, BadRequest)
    return {violation.field for violation in bad.field_violations} if bad else set()


async def events(store: Store[Transaction], *kinds: type[Message]) -> list[Message]:
    """What was told of these kinds, in order."""
    by_name = {kind.DESCRIPTOR.full_name: kind for kind in kinds}
    rows = await store.fetch(sa.select(outbox_rows).order_by(outbox_rows.c.seq))
    return [by_name[row["type"]].FromString(row["body"]) for row in rows if row["type"] in by_name]
