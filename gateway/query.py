"""Query parameters → request fields."""

from collections.abc import Collection
from typing import Any, Final

from google.protobuf.descriptor import Descriptor

from gateway.fields import BadField, TextField, resolve
from gateway.refusals import VIOLATIONS_MAX, Mismatch, Refused, Violation, Violations, placed
from gateway.routes import MalformedPath, decode_segment

# Resolved names kept per route; types that contain themselves have endlessly many.
_NAMES_MAX: Final = 256


class QueryBinding:
    """Binds the parameters of one route: every field that neither path nor body sets."""

    def __init__(self, message: Descriptor, *, bound: Collection[str], body: str) -> None:
        """`bound`: field paths set by the path; `body`: the body's field, `*` for all of them."""
        self._message = message
        self._bound = frozenset(bound)
        self._body = body
        self._known: dict[str, TextField] = {}

    def bind(self, message: Any, query: bytes) -> None:
        """Sets what the query says. Raises Violations."""
        wrong: list[Violation] = []
        seen: set[str] = set()
        for name, texts in _parameters(query).items():
            try:
                self._bind_one(message, name, texts, seen)
            except Refused as refused:
                wrong += placed(name, refused)
                if len(wrong) >= VIOLATIONS_MAX:
                    break
        if wrong:
            raise Violations(wrong)

    def _bind_one(self, message: Any, name: str, texts: list[str], seen: set[str]) -> None:
        field = self._known.get(name) or self._resolve(name)
        if field.path in seen:
            raise Mismatch("is given under both its names")
        seen.add(field.path)
        if field.leaf.is_repeated:
            field.put_all(message, texts)
            return
        if len(texts) > 1:
            raise Mismatch("is given more than once")
        oneof = field.leaf.containing_oneof
        if oneof is not None and field.parent(message).WhichOneof(oneof.name) is not None:
            raise Mismatch("is given twice, or with another of its oneof")
        field.put(message, texts[0])

    def _resolve(self, name: str) -> TextField:
        if self._body == "*":
            raise Mismatch("must be in the body; this route takes no query parameters")
        try:
            field = resolve(self._message, name, by_json_name=True)
        except BadField:
            raise Mismatch("is not a query parameter of this route") from None
        if field.path in self._bound:
            raise Mismatch("is already given by the path")
        if self._body and field.path.split(".")[0] == self._body:
            raise Mismatch("must be in the body")
        if len(self._known) < _NAMES_MAX:
            self._known[name] = field
        return field


def _parameters(query: bytes) -> dict[str, list[str]]:
    """Names and values, decoded, in order. `+` is a space. Raises Violations."""
    found: dict[str, list[str]] = {}
    encoded = b"%" in query
    try:
        for pair in query.replace(b"+", b" ").decode("ascii").split("&"):
            if pair:
                name, _, value = pair.partition("=")
                if encoded:
                    name, value = decode_segment(name), decode_segment(value)
                found.setdefault(name, []).append(value)
    except (MalformedPath, UnicodeDecodeError):
        raise Violations([Violation("query", "is not percent-encoded UTF-8")]) from None
    return found
