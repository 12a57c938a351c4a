"""Who may say and hear what at the broker, by certificate.

A service tells facts of its own and nobody else's, reads streams by consumers of its own name, hears the
answers to itself, and has a subject of its own on which its replicas talk (moves.py). Asked how it is, by its
own name or by none (discovery.py), it answers whoever asked, once. It cannot delete or purge anything. The
operator may do everything; others may not connect.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from services.chassis import discovery
from services.chassis.events import deadletter, moves
from services.chassis.events.connection import inbox_prefix
from services.chassis.events.jetstream import stream_name
from services.chassis.identity.workload import spiffe_id

Users: TypeAlias = Sequence[Mapping[str, Any]]
"""As in a nats-server's configuration."""

ANSWER_WITHIN: Final = "2s"
"""Of a question, and one answer: else whoever was asked once could say there whatever it likes for ever."""


def users(services: Iterable[str], *, operator: str) -> Users:
    """Everybody who may connect."""
    services = tuple(services)
    return [{"user": spiffe_id(operator)}, *(_user(service, services) for service in services)]


def _user(service: str, others: tuple[str, ...]) -> dict[str, Any]:
    allowed = {
        "publish": {"allow": list(_published(service, others))},
        "subscribe": {"allow": list(_heard(service))},
        "allow_responses": {"max": 1, "expires": ANSWER_WITHIN},
    }
    return {"user": spiffe_id(service), "permissions": allowed}


def _heard(service: str) -> Iterator[str]:
    yield f"{inbox_prefix(service)}.>"
    yield moves.subject(service)
    yield from discovery.heard_by(service, "*")


def _published(service: str, others: tuple[str, ...]) -> Iterator[str]:
    yield f"bodega.{service}.>"
    yield moves.subject(service)
    yield "$JS.API.INFO"
    yield f"$JS.API.STREAM.MSG.GET.{stream_name(service)}"
    # Whoever comes first makes a stream, and whoever is newest brings it up to date.
    for stream in (*map(stream_name, others), deadletter.STREAM):
        for act in ("INFO", "CREATE", "UPDATE"):
            yield f"$JS.API.STREAM.{act}.{stream}"
    for other in others:
        consumer = f"{service}-{other}"
        place = f"{stream_name(other)}.{consumer}"
        yield f"bodega.deadletter.{consumer}.>"
        yield f"$JS.ACK.{place}.>"
        for act in ("INFO", "CREATE", "DURABLE.CREATE", "RESET", "MSG.NEXT"):
            yield f"$JS.API.CONSUMER.{act}.{place}"
