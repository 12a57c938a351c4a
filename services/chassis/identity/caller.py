"""Who asks, as far as that was proven."""

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Caller:
    """A person, or a service of the house, or nobody. Made once per token or certificate, not per call."""

    user_id: str = ""
    """Of a signed-in user; empty for everyone else."""

    roles: frozenset[str] = frozenset()
    """What the user is trusted with, e.g. `support`; as policy.proto names them, in lower case."""

    session_id: str = ""
    """Of the session that the user is signed in with; empty where there is none, as for an API key."""

    scopes: frozenset[str] | None = None
    """What an API key may do of what its owner may, e.g. `order:read`. None: no key, hence everything."""

    workload: str = ""
    """Name of a service of the house that acts in its own right, e.g. `order`."""

    on_behalf_of: str = ""
    """Whose wish a workload carries out, e.g. `user:0190…`; empty if it is its own."""

    token: str = field(default="", repr=False, compare=False)
    """What proves the user, to be handed on with calls made for them."""

    name: str = field(init=False)
    """`user:0190…` or `workload:order`; empty for nobody. What logs, events and request ids go by."""

    def __post_init__(self) -> None:
        named = f"workload:{self.workload}" if self.workload else ""
        object.__setattr__(self, "name", f"user:{self.user_id}" if self.user_id else named)


NOBODY: Final = Caller()
