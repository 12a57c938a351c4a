"""The user service is killed around its commits and replies; there is one account, and orders go on."""

import uuid

import pytest

from tests.faults import books
from tests.faults.scene import Json, Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("site", ["storage.commit.before", "storage.commit.after", "server.reply.before"])
async def test_one_account_is_made_though_the_user_service_dies_at(scene: Scene, site: str) -> None:
    name = uuid.uuid4().hex[:20]
    body = {"email": f"{name}@example.com", "username": name, "password": "correct horse battery"}
    key = str(uuid.uuid4())
    [user] = await scene.survives(
        "user", f"{site}[RegisterUser]=exit", scene.ask("POST", "/users", body, key=key)
    )
    again = await scene.ask("POST", "/users", body, key=key)
    assert again["userId"] == user["userId"]


async def test_orders_are_accepted_though_the_user_service_dies_being_asked(scene: Scene) -> None:
    orders = await scene.survives(
        "user", "server.reply.before[GetUser]=exit", *(scene.buy() for _ in range(3))
    )
    for order in orders:
        await scene.assert_paid(order)


@pytest.mark.parametrize("site", ["outbox.publish.before", "outbox.mark.before"])
async def test_an_account_is_told_of_once_though_the_user_service_dies_at(scene: Scene, site: str) -> None:
    async def register() -> Json:
        user_id, _ = await scene.user()
        return {"userId": user_id}

    [user] = await scene.survives("user", f"{site}=exit", register())
    await scene.until(
        lambda: books.told(scene.shop, user["userId"]),
        lambda titles: titles == ["Account activated", "Welcome"],
    )
