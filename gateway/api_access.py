"""Who may call what, as an API's document tells it: from the policies, whoever enforces them."""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from gateway.api_keys import EXCHANGE_RPC
from services.chassis.contract import Method
from services.chassis.policy import access
from services.chassis.policy.access import Rule

BEARER: Final = "bearer"
API_KEY: Final = "apiKey"

_SCHEMES: Final[dict[str, dict[str, str]]] = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token, as signing in gives it.",
    },
    API_KEY: {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "For programs: does what its owner may and its scopes name. Not beside a token.",
    },
}


class Security:
    """What callers have to show for each method."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        services = {f"/{file.package}.{service.name}" for file in files for service in file.service}
        self._takes_keys = EXCHANGE_RPC.rpartition("/")[0] in services
        self._is_asked = False

    def schemes(self) -> dict[str, Any]:
        """Those that the methods asked about need; empty if none does."""
        names = [BEARER, API_KEY] if self._takes_keys else [BEARER]
        return {name: _SCHEMES[name] for name in names} if self._is_asked else {}

    def of(self, method: Method) -> list[dict[str, list[str]]]:
        """Any of these; empty: nothing, or nobody knows."""
        rule = rule_of(method)
        if rule is None or rule.public:
            return []
        self._is_asked = True
        return [{BEARER: []}, {API_KEY: []}] if self._takes_keys else [{BEARER: []}]

    def words(self, method: Method) -> str:
        """The same for people, who learn from it whom a service will refuse."""
        rule = rule_of(method)
        if rule is None or rule.public:
            return ""
        whom = ["everyone who is signed in"] if rule.signed_in else []
        if rule.owner is not None or rule.owner_of_resource:
            whom.append("whoever it belongs to")
        whom += [f"`{role}`" for role in sorted(rule.roles)]
        keys = f" An API key needs `{rule.scope}`." if self._takes_keys else ""
        return f"For {', '.join(whom)}.{keys}" if whom else "For services of the house alone."


def rule_of(method: Method) -> Rule | None:
    """None: the contract says nothing of it."""
    if method.policy is None or not method.policy.HasField("access"):
        return None
    return access.rule(method)
