import pytest

from services.chassis.client import retry
from services.chassis.events import consumer
from services.chassis.policy.backoff import Backoff
from services.order.saga import Patience


@pytest.mark.parametrize(
    ("failures", "limit_s"),
    [(1, 0.1), (2, 0.2), (3, 0.4), (5, 1.6), (6, 2.0), (10_000, 2.0)],
)
def test_the_limit_doubles_up_to_its_maximum(failures: int, limit_s: float) -> None:
    assert Backoff(first_s=0.1, max_s=2.0).limit_s(failures) == pytest.approx(limit_s)


@pytest.mark.parametrize(("drawn", "delay_s"), [(0.0, 0.0), (0.5, 0.1), (1.0, 0.2)])
def test_jitter_is_full(drawn: float, delay_s: float) -> None:
    assert Backoff(first_s=0.1, max_s=2.0).delay_s(2, lambda: drawn) == pytest.approx(delay_s)


def test_retries_consumers_and_the_saga_wait_by_the_same_policy() -> None:
    policies = {type(retry.BACKOFF), type(consumer.BACKOFF), Patience.__annotations__["backoff"]}
    assert policies == {Backoff}
