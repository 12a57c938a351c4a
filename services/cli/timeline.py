"""What happened to an order, as lines for people."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from rich.table import Table
from rich.text import Text

Json = dict[str, Any]

_FACTS: Final = (
    "placed",
    "stepDone",
    "stepRefused",
    "stepGivenUp",
    "cancelRequested",
    "compensationForced",
    "confirmed",
    "rejected",
    "cancelled",
    "needsAttention",
    "lateMoneyReturned",
    "captureRequested",
    "shipped",
    "delivered",
    "refundRequested",
    "refunded",
)
_STYLES: Final = {
    "stepRefused": "yellow",
    "stepGivenUp": "yellow",
    "cancelRequested": "yellow",
    "needsAttention": "bold red",
    "confirmed": "bold green",
    "rejected": "bold yellow",
    "cancelled": "bold yellow",
    "lateMoneyReturned": "yellow",
    "shipped": "bold green",
    "delivered": "bold green",
    "refundRequested": "yellow",
    "refunded": "bold yellow",
}


def table(events: list[Json]) -> Table:
    """The events of `ListOrderEvents`, with the time each took since the first."""
    made = Table.grid(padding=(0, 2))
    began = _time(events[0]) if events else None
    for event in events:
        assert began is not None
        millis = (_time(event) - began).total_seconds() * 1000
        fact = next((name for name in _FACTS if name in event), "")
        made.add_row(
            f"  {event['version']:>2}",
            f"{millis:8.1f} ms",
            Text(describe(event), style=_STYLES.get(fact, "")),
        )
    return made


def describe(event: Json) -> str:
    """One event in a few words."""
    return ", ".join(_words(event))


def _words(event: Json) -> Iterator[str]:
    match event:
        case {"placed": _}:
            yield "accepted"
        case {"stepDone": step}:
            yield f"{_step(step)}: done"
            yield from _attempts(step)
        case {"stepRefused": step}:
            yield f"{_step(step)}: refused, {step.get('reason', '')}"
            yield from _attempts(step)
        case {"stepGivenUp": step}:
            yield f"{_step(step)}: given up, {step.get('lastOutcome', '')}"
            yield from _attempts(step)
        case {"cancelRequested": request}:
            yield f"cancel requested: {request.get('reason', '')}"
        case {"compensationForced": request}:
            yield f"given up by an operator: {request.get('reason', '')}"
        case {"confirmed": _}:
            yield "confirmed"
        case {"rejected": rejected}:
            yield f"rejected: {rejected.get('reason', '')}"
        case {"cancelled": _}:
            yield "cancelled"
        case {"needsAttention": attention}:
            yield f"needs attention: {attention.get('step', '')}"
            yield from _attempts(attention)
        case _:
            yield from _words_of_standing(event)


def _words_of_standing(event: Json) -> Iterator[str]:
    """What happens to an order once it is confirmed."""
    match event:
        case {"captureRequested": payment}:
            yield f"to be shipped: {_money(payment['amount'])} to be taken first"
        case {"shipped": shipped}:
            yield "shipped"
            yield from filter(None, [shipped.get("trackingReference", "")])
        case {"delivered": _}:
            yield "delivered"
        case {"refundRequested": refund}:
            pieces = sum(int(line["quantity"]) for line in refund.get("lines", []))
            yield f"refund of {_money(refund['amount'])} for {pieces} pieces requested"
            yield "goods go back on sale" if refund.get("returnStock") else "goods stay"
            yield from ["so much less will be taken"] if refund.get("beforeCapture") else []
        case {"refunded": refund}:
            yield f"refunded: {_money(refund['amount'])}"
        case {"lateMoneyReturned": late}:
            yield f"late money went back: {_money(late['amount'])}"
        case _:
            yield "something this release does not know"


def _money(amount: Json) -> str:
    cents = int(amount.get("nanos", 0)) // 10_000_000
    return f"{amount.get('units', '0')}.{cents:02} {amount.get('currencyCode', '')}"


def _step(step: Json) -> str:
    return str(step["step"]).removeprefix("STEP_").lower().replace("_", " ")


def _attempts(step: Json) -> Iterator[str]:
    if step.get("attempts", 1) > 1:
        yield f"{step['attempts']} attempts"


def _time(event: Json) -> datetime:
    return datetime.fromisoformat(event["time"])
