"""What is told alike of both ends of a call."""

from typing import Final

from services.chassis.tracing import Value, names

# The server's fault (https://opentelemetry.io/docs/specs/semconv/rpc/grpc/). What it refuses is an answer.
FAILURES: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


def attributes(path: str, code: str) -> dict[str, Value]:
    """Of a call that ended with this code."""
    return {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: path, names.RPC_STATUS: code}
