"""What is wrong with a request's content, field by field.

Decoders raise `Mismatch` about the value at hand; whoever knows its place turns that into `Violations`, so
that a client learns of everything at once. Messages are ours: no exception's text reaches a client.
"""

from dataclasses import dataclass
from typing import Final

# Nobody mends more at a time, and a request of a million wrong fields must not grow a reply as large.
VIOLATIONS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Violation:
    """One field (its path, proto names, e.g. `lines[0].quantity`; empty: the whole) and what is wrong."""

    field: str
    description: str


class Refused(Exception):
    """The content is not what the contract asks for."""

    violations: tuple[Violation, ...]


class Mismatch(Refused):
    """One value is not what its type asks for. The text may be shown: it never quotes an exception."""

    def __init__(self, description: str) -> None:
        super().__init__(description)
        self.violations = (Violation("", description),)


class Violations(Refused):
    """Several fields, or one whose place is known."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__(f"{len(violations)} violations")
        self.violations = tuple(violations[:VIOLATIONS_MAX])


def placed(field: str, refused: Refused) -> list[Violation]:
    """The same violations, seen from one level up."""
    return [Violation(join(field, below.field), below.description) for below in refused.violations]


def join(field: str, below: str) -> str:
    """`order` and `lines[0]` make `order.lines[0]`."""
    if not below or not field:
        return field or below
    return f"{field}{below}" if below.startswith("[") else f"{field}.{below}"
