"""The span of a request: of those that are sampled, and of those that failed or were slow."""

from typing import Final

from gateway.headers import Incoming
from gateway.site import Route
from services.chassis import tracing
from services.chassis.tracing import Kind, Value, names

_FAILED: Final = 500  # and above

# Others are a client's invention (https://opentelemetry.io/docs/specs/semconv/http/http-spans/).
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_OTHER: Final = "_OTHER"


def write(incoming: Incoming, http_method: str, route: Route | None, status: int, duration_s: float) -> None:
    """Tells of a request that was answered, if it is worth it. By its template, never its path."""
    if not tracing.is_on():
        return
    slow = (route is None or route.stream is None) and tracing.is_slow(duration_s)
    if not tracing.is_wanted(incoming.trace, failed=status >= _FAILED, slow=slow):
        return
    method = http_method if http_method in _METHODS else _OTHER
    told: dict[str, Value] = {names.HTTP_METHOD: method, names.HTTP_STATUS: status}
    name = "HTTP" if method == _OTHER else method
    if route is not None:
        told[names.HTTP_ROUTE] = route.rule.template.text
        name = f"{name} {route.rule.template.text}"
    error = str(status) if status >= _FAILED else ""
    tracing.ended(
        name, Kind.SERVER, incoming.trace, incoming.parent_id, told, duration_s=duration_s, error=error
    )
