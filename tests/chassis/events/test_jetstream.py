"""What is asked of a broker about a stream that is there already."""

from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from nats.js import api
from nats.js.errors import NotFoundError

from services.chassis.events.jetstream import ensure_stream

SUBJECTS = "bodega.order.>"


class Cluster:
    """As much of a connection as is needed to look at one stream, and to change it."""

    def __init__(self) -> None:
        self.jetstream = self
        self.config: Any = None
        self.updates = 0

    async def ask(self, request: Awaitable[Any]) -> Any:
        return await request

    async def stream_info(self, _name: str) -> api.StreamInfo:
        if self.config is None:
            raise NotFoundError
        state = api.StreamState(messages=0, bytes=0, first_seq=1, last_seq=0, consumer_count=0)
        return api.StreamInfo(config=self.config, state=state, created=datetime.now(UTC))

    async def add_stream(self, config: api.StreamConfig) -> api.StreamInfo:
        self.config = config
        return await self.stream_info("")

    async def update_stream(self, config: api.StreamConfig) -> api.StreamInfo:
        self.updates += 1
        return await self.add_stream(config)


async def ensured(cluster: Any) -> None:
    await ensure_stream(cluster, "BODEGA_ORDER", SUBJECTS, replicas=1)


@pytest.fixture
async def cluster() -> Cluster:
    """With the stream as we make it."""
    made = Cluster()
    await ensured(made)
    return made


async def test_a_stream_that_is_as_it_should_be_is_left_alone(cluster: Cluster) -> None:
    await ensured(cluster)
    assert cluster.updates == 0


async def test_the_copies_that_an_operator_gave_a_stream_are_never_taken_away(cluster: Cluster) -> None:
    cluster.config = replace(cluster.config, num_replicas=3)
    await ensured(cluster)
    assert cluster.updates == 0
    cluster.config = replace(cluster.config, max_bytes=1)
    await ensured(cluster)
    assert (cluster.updates, cluster.config.num_replicas) == (1, 3)
