"""Which route a path takes.

A trie over path segments. At each segment a literal is preferred to `*`, and `*` to `**`; of several `**`
the one with the longest tail wins. Since only literals may follow `**`, a tail is compared from the end and
every node of the trie is visited at most once: the work is bounded by the routes, not by the request.
"""

import re
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from gateway.http_rule import MANY, ONE, Template, Variable

T = TypeVar("T")

ANY_METHOD: Final = "*"
Path = tuple[str, ...]
_HEX = frozenset(b"0123456789abcdefABCDEF")
_SLASH = re.compile("(%2[Ff])")


class Conflict(ValueError):
    """Two routes answer the same requests."""


class MalformedPath(ValueError):
    """The request's path is not a path: a broken escape, bytes that are no UTF-8, dot segments."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    template: Template
    slots: "tuple[_Slot, ...]"
    target: T


@dataclass(slots=True)
class _Leaf(Generic[T]):
    by_method: "dict[str, _Entry[T]]" = field(default_factory=dict)


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: "dict[str, _Node[T]]" = field(default_factory=dict)
    one: "_Node[T] | None" = None
    many: "list[tuple[Path, str, _Leaf[T]]]" = field(default_factory=list)
    """(tail, verb, leaf), longest tail first."""

    ends: "dict[str, _Leaf[T]]" = field(default_factory=dict)
    """By verb."""


class Found(NamedTuple, Generic[T]):
    """What a path leads to: a route for the method asked for, or the methods there are."""

    route: T | None
    values: tuple[str, ...]
    """One per variable of the template, in its order."""

    allowed: tuple[str, ...]


class Router(Generic[T]):
    """Routes by method and template; `T` is whatever a route leads to."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._plain: dict[
            str, _Leaf[T]
        ] = {}  # by path, what has neither variable nor verb: nothing is better
        self._verbs: tuple[str, ...] = ()

    def add(self, http_method: str, template: Template, target: T) -> None:
        """Raises Conflict if another route takes exactly the same requests."""
        leaf = self._leaf(template)
        known = leaf.by_method.get(http_method)
        if known is not None:
            raise Conflict(f"{http_method} {template.text} takes the same requests as {known.template.text}")
        slots = tuple(_Slot.of(template, variable) for variable in template.variables)
        leaf.by_method[http_method] = _Entry(template, slots, target)
        if not template.wild and not template.verb and "%" not in template.text:
            self._plain["/" + "/".join(template.segments)] = leaf
        if template.verb and template.verb not in self._verbs:
            self._verbs = tuple(sorted((*self._verbs, template.verb), key=len, reverse=True))

    def find(self, http_method: str, raw_path: str) -> Found[T] | None:
        """The route of a path as it came over the wire, without its query; None if it leads nowhere.

        Raises MalformedPath.
        """
        plain = self._plain.get(raw_path)
        if plain is not None and http_method in plain.by_method:
            return Found(plain.by_method[http_method].target, (), ())
        if "%" in raw_path:
            raw = tuple(raw_path[1:].split("/"))
            segments = tuple(map(decode_segment, raw))
        else:
            segments = raw = tuple(raw_path[1:].split("/"))
        if not raw_path.startswith("/"):
            raise MalformedPath("the path does not start with '/'")
        if "." in segments or ".." in segments:
            raise MalformedPath("the path has '.' or '..' segments")
        if segments == ("",):
            segments = raw = ()
        allowed: dict[str, None] = {}
        for leaf, decoded, encoded in self._leaves(segments, raw):
            entry = leaf.by_method.get(http_method) or leaf.by_method.get(ANY_METHOD)
            if entry is not None:
                return Found(entry.target, tuple([slot.value(decoded, encoded) for slot in entry.slots]), ())
            allowed.update(dict.fromkeys(leaf.by_method))
        return Found(None, (), tuple(allowed)) if allowed else None

    def _leaf(self, template: Template) -> _Leaf[T]:
        node = self._root
        for index, segment in enumerate(template.segments):
            if index not in template.wild:
                node = node.literals.setdefault(segment, _Node())
            elif segment == ONE:
                node.one = node.one or _Node()
                node = node.one
            else:
                return _tail_leaf(node, template.segments[index + 1 :], template.verb)
        return node.ends.setdefault(template.verb, _Leaf())

    def _leaves(self, segments: Path, raw: Path) -> list[tuple[_Leaf[T], Path, Path]]:
        """Leaves that take this path, best first, each with the segments less the verb."""
        found: list[tuple[_Leaf[T], Path, Path]] = []
        last = raw[-1] if raw else ""
        if ":" in last:
            for verb in self._verbs:
                resource = last.removesuffix(":" + verb)
                if resource not in ("", last):
                    decoded = (*segments[:-1], decode_segment(resource))
                    encoded = (*raw[:-1], resource)
                    found += [(leaf, decoded, encoded) for leaf in _walk(self._root, decoded, verb)]
        found += [(leaf, segments, raw) for leaf in _walk(self._root, segments, "")]
        return found


def _tail_leaf(node: _Node[T], tail: Path, verb: str) -> _Leaf[T]:
    for known_tail, known_verb, leaf in node.many:
        if (known_tail, known_verb) == (tail, verb):
            return leaf
    added: _Leaf[T] = _Leaf()
    node.many.append((tail, verb, added))
    node.many.sort(key=lambda entry: len(entry[0]), reverse=True)
    return added


def _walk(root: _Node[T], segments: Path, verb: str) -> list[_Leaf[T]]:
    found: list[_Leaf[T]] = []
    _visit(root, segments, 0, verb, found)
    return found


def _visit(node: _Node[T], segments: Path, at: int, verb: str, found: list[_Leaf[T]]) -> None:
    if at == len(segments):
        leaf = node.ends.get(verb)
        if leaf is not None:
            found.append(leaf)
    elif segments[at]:  # an empty segment is no value: an empty identifier never reaches a service
        below = node.literals.get(segments[at])
        if below is not None:
            _visit(below, segments, at + 1, verb, found)
        if node.one is not None:
            _visit(node.one, segments, at + 1, verb, found)
    for tail, its_verb, leaf in node.many:
        if (
            its_verb == verb
            and len(segments) - at >= len(tail)
            and (not tail or segments[-len(tail) :] == tail)
            and "" not in segments[at:]
        ):
            found.append(leaf)


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where a variable's value stands among a path's segments."""

    start: int
    end: int
    single: bool

    @classmethod
    def of(cls, template: Template, variable: Variable) -> "_Slot":
        many = next((at for at in template.wild if template.segments[at] == MANY), len(template.segments))
        # What comes after `**` is counted from the end; 0 would mean "the end", hence the template's length.
        from_end = len(template.segments)
        start = variable.start if variable.start <= many else variable.start - from_end
        end = variable.end if variable.end <= many else variable.end - from_end
        return cls(start, end, single=variable.end - variable.start == 1 and variable.start != many)

    def value(self, segments: Path, raw: Path) -> str:
        if self.single:
            return segments[self.start]
        end = self.end if self.end > 0 else len(raw) + self.end
        return "/".join(map(_decode_but_slash, raw[self.start : end]))


def decode_segment(text: str) -> str:
    """Percent-decoded text. Raises MalformedPath for a broken escape or what is no UTF-8."""
    if "%" not in text:
        return text
    data = text.encode()
    at = data.find(b"%")
    while at >= 0:
        if len(data) < at + 3 or data[at + 1] not in _HEX or data[at + 2] not in _HEX:
            raise MalformedPath("a '%' is not followed by two hexadecimal digits")
        at = data.find(b"%", at + 1)
    try:
        return unquote_to_bytes(data).decode()
    except UnicodeDecodeError:
        raise MalformedPath("an escape is not UTF-8") from None


def _decode_but_slash(text: str) -> str:
    """As google/api/http.proto asks of variables over several segments: all but %2F is decoded."""
    parts = _SLASH.split(text)
    parts[::2] = map(decode_segment, parts[::2])
    return "".join(parts)
