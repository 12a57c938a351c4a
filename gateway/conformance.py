"""Templates, routing and rule checks on their own, for conformance runners.

Plain values in and out, so that a runner in another interpreter can call them over a pipe.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.http_rule import parse
from gateway.routes import MalformedPath, Router


def parse_template(text: str) -> dict[str, Any]:
    """What a path template means. Raises ValueError if it means nothing."""
    template = parse(text)
    return {
        "valid": True,
        "segments": list(template.segments),
        "verb": template.verb,
        "variables": [{"field": v.field, "start": v.start, "end": v.end} for v in template.variables],
    }


def route(rules: Sequence[Mapping[str, str]], method: str, target: str) -> dict[str, Any]:
    """Which of these routes a request line takes, and what its variables are bound to."""
    router: Router[tuple[str, tuple[str, ...]]] = Router()
    for rule in rules:
        template = parse(rule["template"])
        names = tuple(variable.field for variable in template.variables)
        router.add(rule["method"], template, (rule["route"], names))
    try:
        found = router.find(method, target.partition("?")[0])
    except MalformedPath:
        return {"match": False, "status": 400, "grpc_code": "INVALID_ARGUMENT"}
    if found is None or found.route is None:
        return {"match": False}
    name, fields = found.route
    return {"match": True, "route": name, "bindings": dict(zip(fields, found.values, strict=True))}
