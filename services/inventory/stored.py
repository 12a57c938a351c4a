"""What was asked and why it was refused, as text in a row (JSON): nobody searches by it."""

import json
from collections.abc import Iterable

from services.inventory.stock import Want
from services.kernel.errors import DomainError


def wants_text(wants: Iterable[Want]) -> str:
    return json.dumps([(want.product_id, want.warehouse_id, want.quantity) for want in wants])


def wants_from(text: str) -> tuple[Want, ...]:
    return tuple(Want(*want) for want in json.loads(text))


def refusal_text(refusal: DomainError | None) -> str | None:
    return json.dumps({"reason": refusal.reason, "metadata": refusal.metadata}) if refusal else None


def refusal_from(text: str | None, kinds: Iterable[type[DomainError]]) -> DomainError | None:
    """The refusal in the same words; it must be of one of these kinds."""
    if text is None:
        return None
    said = json.loads(text)
    kind = {kind.reason: kind for kind in kinds}[said["reason"]]
    return kind(**said["metadata"])
