"""A deploy at noon: every process gives way to a new one while people buy, and nobody notices."""

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from services.chassis import client
from services.chassis.testing import free_port, until
from services.cli.data_folder import GATEWAY, SERVICES
from tests.chassis.playground import FILE, Ping, Stub
from tests.chassis.program import started
from tests.faults.scene import WAIT_S, Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALLERS: Final = 16


@asynccontextmanager
async def again_and_again(deed: Callable[[], Awaitable[Any]], at_once: int) -> AsyncIterator[list[Any]]:
    """So many do it, over and over, until the block is left; what came of it. The first failure ends all."""
    came: list[Any] = []
    is_over = False

    async def keep_on() -> None:
        while not is_over:
            came.append(await deed())

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(keep_on())
        try:
            yield came
        finally:
            is_over = True


async def test_orders_are_confirmed_though_every_program_is_restarted_in_turn(scene: Scene) -> None:
    async with again_and_again(scene.buy, at_once=3) as orders:
        for program in (*SERVICES, GATEWAY):
            bought = len(orders)
            await scene.shop.programs.restart(program)
            await _more(orders, than=bought)
    assert {order["state"] for order in orders} == {"STATE_CONFIRMED"}
    for order in orders:
        await scene.assert_paid(order)


async def test_no_call_fails_while_each_of_two_instances_is_restarted() -> None:
    """What a server drops when it stops, its client asks the other one."""
    ports = [free_port(), free_port()]
    instances = [await started(port) for port in ports]
    target = f"ipv4:{','.join(f'127.0.0.1:{port}' for port in ports)}"
    try:
        async with client.connect(target, FILE) as channel:
            write = Stub(channel).Write

            async def call() -> int:
                return int((await write(Ping())).name)

            async with again_and_again(call, at_once=CALLERS) as done:
                await _answer(instances, done)
                for n, port in enumerate(ports):
                    instances[n].send_signal(signal.SIGTERM)
                    assert await asyncio.wait_for(instances[n].wait(), WAIT_S) == 0
                    instances[n] = await started(port)
                    await _answer(instances, done)  # the next one goes when this one is found again
    finally:
        for instance in instances:
            if instance.returncode is None:
                instance.kill()
            await instance.communicate()


async def _more(orders: list[Any], *, than: int) -> None:
    await until(lambda: len(orders) > than, WAIT_S)


async def _answer(instances: list[Process], done: list[int]) -> None:
    """Waits until each of them has answered once more."""
    before = len(done)
    await until(lambda: {instance.pid for instance in instances} <= set(done[before:]), WAIT_S)
