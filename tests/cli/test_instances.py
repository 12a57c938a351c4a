"""Who is expected and who announces itself, as one list."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.chassis.discovery import Answers, Instance
from services.chassis.health import State
from services.cli.endpoints import Endpoints, ServiceEndpoint
from services.cli.instances import places

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def instance(number: int, host: str = "127.0.0.1", *, age_s: float = 0) -> Instance:
    """One whose ports end in its number."""
    return Instance(
        service="order",
        id=f"id-{number}",
        version="0.1.0",
        state=State.SERVING,
        lacks="",
        mesh=f"{host}:100{number}",
        guests=f"{host}:200{number}",
        operations=f"{host}:300{number}",
        pid=number,
        started_at=BEGAN - timedelta(seconds=age_s),
    )


def endpoint(number: int, host: str = "127.0.0.1", *, pid: int = 0) -> ServiceEndpoint:
    return ServiceEndpoint(f"{host}:200{number}", f"{host}:300{number}", pid, "", mesh=f"{host}:100{number}")


def several(*expected: ServiceEndpoint) -> ServiceEndpoint:
    """A service of as many processes."""
    replicas = {f"order-{number}": at for number, at in enumerate(expected, 1)}
    return replace(expected[0], replicas=replicas if len(expected) > 1 else {})


def shop(**services: ServiceEndpoint) -> Endpoints:
    return Endpoints(gateway="http://127.0.0.1:1", nats="nats://127.0.0.1:1", services=services)


def found(expected: list[ServiceEndpoint], *instances: Instance) -> list[tuple[str, bool, bool]]:
    """Where, whether it announces itself, whether it is expected."""
    answers = Answers("order", {each.id: each for each in instances})
    listed = places(shop(order=several(*expected)), [answers])
    return [(at.address, at.announced is not None, at.is_expected) for at in listed]


def test_who_is_expected_and_there_is_listed_once() -> None:
    assert found([endpoint(1), endpoint(2)], instance(1), instance(2, age_s=5)) == [
        ("127.0.0.1:1001", True, True),
        ("127.0.0.1:1002", True, True),
    ]


def test_who_does_not_say_so_is_listed_from_the_file() -> None:
    assert found([endpoint(1), endpoint(2)], instance(1)) == [
        ("127.0.0.1:1001", True, True),
        ("127.0.0.1:1002", False, True),
    ]
    assert found([endpoint(1)]) == [("127.0.0.1:1001", False, True)]


def test_who_is_not_in_the_file_is_listed_as_unexpected() -> None:
    assert found([endpoint(1)], instance(1), instance(2)) == [
        ("127.0.0.1:1001", True, True),
        ("127.0.0.1:1002", True, False),
    ]


def test_a_name_in_the_file_stands_for_all_who_may_be_behind_it() -> None:
    one, other = instance(1, "172.18.0.3", age_s=5), replace(instance(1, "172.18.0.4"), id="id-2")
    assert found([endpoint(1, "order")], one, other) == [
        ("172.18.0.3:1001", True, True),
        ("172.18.0.4:1001", True, True),
    ]


def test_another_port_is_not_behind_that_name() -> None:
    assert found([endpoint(1, "order")], instance(2, "172.18.0.3")) == [
        ("order:1001", False, True),
        ("172.18.0.3:1002", True, False),
    ]


def test_what_an_instance_says_of_itself_is_newer_than_the_file() -> None:
    answers = Answers("order", {"id-1": instance(1)})
    [at] = places(shop(order=endpoint(1, pid=77)), [answers])
    assert at.pid == 1
    [at] = places(shop(order=endpoint(1, pid=77)), [])
    assert at.pid == 77
    [at] = places(shop(order=endpoint(1)), [])
    assert at.pid is None


def test_services_keep_their_order_and_processes_their_names() -> None:
    expected = shop(user=endpoint(1), order=several(endpoint(2), endpoint(3)), payment=endpoint(4))
    answers = Answers("order", {each.id: each for each in (instance(5), instance(3, age_s=-5))})
    assert [(at.program, at.service, at.address) for at in places(expected, [answers])] == [
        ("user", "user", "127.0.0.1:1001"),
        ("order-1", "order", "127.0.0.1:1002"),
        ("order-2", "order", "127.0.0.1:1003"),
        ("order", "order", "127.0.0.1:1005"),
        ("payment", "payment", "127.0.0.1:1004"),
    ]
