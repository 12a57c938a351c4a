"""A shop a worker: starting one takes seconds, so all tests that leave it whole share it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.scene import Scene

Reports = dict[str, pytest.TestReport]
REPORTS = pytest.StashKey[Reports]()


class Stage:
    """The scene at hand, if there is one."""

    def __init__(self, homes: pytest.TempPathFactory) -> None:
        self._homes = homes
        self._scene: Scene | None = None

    async def scene(self) -> Scene:
        if self._scene is None:
            self._scene = await Scene.opened(self._homes.mktemp("shop"))
        return self._scene

    async def clear(self) -> None:
        scene, self._scene = self._scene, None
        if scene is not None:
            await scene.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path_factory)
    yield stage
    await stage.clear()


@pytest_asyncio.fixture(loop_scope="session")
async def scene(stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """A shop in which everything runs and every invariant holds, before the test and after it."""
    scene = await stage.scene()
    yield scene
    reports = request.node.stash.get(REPORTS, {})
    if "call" not in reports or reports["call"].failed:
        await stage.clear()  # whatever is wrong with it shall not fail the next one
        return
    try:
        await scene.shop.programs.wait_ready()
        await scene.everything_holds()
    except BaseException:
        await stage.clear()
        raise


@pytest_asyncio.fixture(loop_scope="session")
async def later(scene: Scene) -> AsyncIterator[Scene]:
    """The same shop, to a buyer who pays when the parcel leaves."""
    async with scene.paying_later():
        yield scene


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]  # noqa: ANN201
    report = yield
    item.stash.setdefault(REPORTS, {})[report.when] = report
    return report
