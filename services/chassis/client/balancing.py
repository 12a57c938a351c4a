"""How calls are spread over a neighbour's replicas, and how soon one that is gone gets no more of them.

A target names them all, `ipv4:host:port,host:port` or `dns:///host:port`. Each is connected to and watched by
grpc.health.v1: who drains, or says that it is not ready, is passed over until it says otherwise; who closes
its connection is passed over at once. Who says nothing at all, frozen or cut off while its kernel keeps the
connection, is found by pings that go unanswered.
"""

import json
from typing import Any, Final

PING_AFTER_MS: Final = 1000
"""Of silence on a connection, however many calls wait there. What a frozen replica caught ends at its
deadline, two seconds mostly; what comes later should not have to."""

PING_ANSWERED_WITHIN_MS: Final = 2000
"""grpc's own threads answer, also while Python is busy: whoever cannot within this answers no call in time.
Shorter, and a machine that is short of breath would lose connections just then."""

PING_AGAIN_AFTER_MS: Final = 500
"""What a server puts up with: half of `PING_AFTER_MS`, for pings may bunch up on their way."""

CONNECTED_WITHIN_MS: Final = 5000  # TCP and TLS with a machine short of breath; grpc gives twenty seconds

OF_ANYONE: Final = (
    ("grpc.lb_policy_name", "round_robin"),  # spreads over all addresses, and reconnects unasked
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", CONNECTED_WITHIN_MS),  # grpc's name for it
    ("grpc.max_reconnect_backoff_ms", 2000),  # a restarted neighbour is found within two seconds
)
"""For channels to any server: it may have health checks and ask a token for them, or punish pings."""

_OF_OURS: Final = (
    *OF_ANYONE,
    ("grpc.keepalive_time_ms", PING_AFTER_MS),
    ("grpc.keepalive_timeout_ms", PING_ANSWERED_WITHIN_MS),
    # Of grpc's own pings, by which it measures: ours would wait behind one for a minute.
    ("grpc.http2.ping_timeout_ms", PING_ANSWERED_WITHIN_MS),
    ("grpc.http2.max_pings_without_data", 0),  # as many as it takes: silence is what they are for
)

# The process as a whole: all its services need the same things. The watch counts as a call, so that pings go
# out on connections that have no other. Nothing else is said here: deadlines and retries are the onion's.
_WATCHED: Final = (("grpc.service_config", json.dumps({"healthCheckConfig": {"serviceName": ""}})),)


def of_ours(target: str) -> tuple[tuple[str, Any], ...]:
    """For channels to servers of ours, whose health anybody may watch, and which let clients ping that often.

    An only replica is asked whether it is well or not: with a database that stalls it answers much, and there
    is nobody else to ask.
    """
    return (*_OF_OURS, *(_WATCHED if _names_several(target) else ()))


def _names_several(target: str) -> bool:
    return "," in target or target.startswith("dns:")
