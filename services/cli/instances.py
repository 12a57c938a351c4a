"""Which instances a shop has: those that its file names, and those that say at the broker that they run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from services.chassis.discovery import Answers, Instance
from services.cli.endpoints import Endpoints, ServiceEndpoint


@dataclass(frozen=True, slots=True)
class Place:
    """Where one instance of a service is, and how that is known. Addresses are `host:port`, or empty."""

    program: str
    """`order`, or `order-2` of several."""

    service: str
    mesh: str = ""
    guests: str = ""
    operations: str = ""
    pid: int | None = None
    announced: Instance | None = None
    """What it says of itself at the broker, if it does."""

    is_expected: bool = True
    """Whether the shop's file names it."""

    @property
    def address(self) -> str:
        """By which people know it."""
        return self.mesh or self.guests


def places(shop: Endpoints, answers: Iterable[Answers]) -> list[Place]:
    """Each instance once, service by service: who is expected, there or not, then whoever else there is."""
    told = {each.service: sorted(each.instances.values(), key=_age) for each in answers}
    return [
        place
        for service, at in shop.services.items()
        for place in _of(service, at.programs(service), told.get(service, []))
    ]


def _of(service: str, expected: Mapping[str, ServiceEndpoint], told: Sequence[Instance]) -> Iterator[Place]:
    left = list(told)
    for program, at in expected.items():
        there = [instance for instance in left if _is_at(instance, at)]
        left = [instance for instance in left if instance not in there]
        yield from (_place(program, instance, is_expected=True) for instance in there)
        if not there:
            yield Place(
                program, service, mesh=at.mesh, guests=at.grpc, operations=at.http, pid=at.pid or None
            )
    yield from (_place(service, instance, is_expected=False) for instance in left)


def _place(program: str, instance: Instance, *, is_expected: bool) -> Place:
    return Place(
        program,
        instance.service,
        mesh=instance.mesh,
        guests=instance.guests,
        operations=instance.operations,
        pid=instance.pid,
        announced=instance,
        is_expected=is_expected,
    )


def _age(instance: Instance) -> tuple[float, str]:
    return instance.started_at.timestamp(), instance.id


def _is_at(instance: Instance, at: ServiceEndpoint) -> bool:
    """Whether that is where the file means. A name in the file stands for every address that it may have."""
    pairs = ((instance.mesh, at.mesh), (instance.guests, at.grpc), (instance.operations, at.http))
    return any(_same(told, known) for told, known in pairs)


def _same(told: str, known: str) -> bool:
    if not told or told == known:
        return bool(told)
    host, _, port = known.rpartition(":")
    return not _is_address(host) and port == told.rpartition(":")[2]


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
