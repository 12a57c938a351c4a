"""`google.api.http`: path templates parsed, rules flattened.

The grammar is the one in google/api/http.proto. A template is judged once, at start; whatever is wrong
with it stops the edge, so that no request ever meets half a route.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import MethodDescriptor

ONE: Final = "*"
MANY: Final = "**"

_IDENT = r"[A-Za-z_][A-Za-z0-9_]*"
_FIELD_PATH = re.compile(rf"{_IDENT}(?:\.{_IDENT})*")
# pchar of RFC 3986 without ':' and '*', which the grammar gives a meaning of their own.
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;=@]|%[0-9A-Fa-f]{2})+")
# A registered verb may hold colons ("verb:subverb"): outside the grammar, unambiguous as a suffix.
_VERB = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;=@:]|%[0-9A-Fa-f]{2})+")


class InvalidTemplate(ValueError):
    """A path template outside the grammar; says where and why."""


@dataclass(frozen=True, slots=True)
class Variable:
    """Segments `start` to `end` (exclusive), bound to a request field."""

    field: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed path template."""

    text: str
    segments: tuple[str, ...]
    """Literals, percent-decoded; `ONE` and `MANY` stand for the wildcards."""

    wild: frozenset[int]
    """Which segments are wildcards; a literal may spell `*` as `%2A`."""

    variables: tuple[Variable, ...]
    verb: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to reach a method: additional bindings are rules of their own."""

    http_method: str
    """`*` takes any."""

    template: Template
    body: str
    response_body: str


def rules(method: MethodDescriptor) -> Iterator[Rule]:
    """Every HTTP rule of a method; none if it carries no annotation.

    Raises InvalidTemplate.
    """
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return
    rule = options.Extensions[annotations_pb2.http]
    yield _rule(rule)
    for binding in rule.additional_bindings:
        if binding.additional_bindings:
            raise InvalidTemplate("additional_bindings must not nest")
        yield _rule(binding)


def _rule(rule: http_pb2.HttpRule) -> Rule:
    pattern = rule.WhichOneof("pattern")
    if pattern is None:
        raise InvalidTemplate("a rule names no method and path")
    if pattern == "custom":
        http_method, path = rule.custom.kind, rule.custom.path
    else:
        http_method, path = pattern.upper(), getattr(rule, pattern)
    if not http_method:
        raise InvalidTemplate("a custom rule names no method")
    return Rule(http_method, parse(path), rule.body, rule.response_body)


def parse(text: str) -> Template:
    """Parses a template, e.g. `/v1/{name=shelves/*}/books/**:archive`. Raises InvalidTemplate."""
    return _Parser(text).template()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._segments: list[str] = []
        self._wild: set[int] = set()
        self._variables: list[Variable] = []

    def template(self) -> Template:
        self._expect("/")
        verb = ""
        if self._text != "/":
            self._run_of_segments(inside=False)
            if self._take(":"):
                verb = unquote(self._token(_VERB, "a verb"))
        if self._at != len(self._text):
            raise self._wrong("a segment ends with '/', ':' or the end")
        self._check_wildcards()
        return Template(
            self._text, tuple(self._segments), frozenset(self._wild), tuple(self._variables), verb
        )

    def _run_of_segments(self, *, inside: bool) -> None:
        self._segment(inside=inside)
        while self._take("/"):
            self._segment(inside=inside)

    def _segment(self, *, inside: bool) -> None:
        if self._peek() == "{":
            if inside:
                raise self._wrong("variables do not nest")
            self._variable()
        elif self._take(MANY):
            self._wildcard(MANY)
        elif self._take(ONE):
            self._wildcard(ONE)
        else:
            self._segments.append(unquote(self._token(_LITERAL, "a segment")))

    def _variable(self) -> None:
        self._expect("{")
        field = self._token(_FIELD_PATH, "a field path")
        start = len(self._segments)
        if self._take("="):
            self._run_of_segments(inside=True)
        else:
            self._wildcard(ONE)
        self._expect("}")
        if any(bound.field == field for bound in self._variables):
            raise self._wrong(f"{field} is bound twice")
        self._variables.append(Variable(field, start, len(self._segments)))

    def _wildcard(self, kind: str) -> None:
        self._wild.add(len(self._segments))
        self._segments.append(kind)

    def _check_wildcards(self) -> None:
        kinds = [self._segments[index] for index in sorted(self._wild)]
        if MANY in kinds[:-1]:
            raise InvalidTemplate(f"{self._text!r}: only literals may follow '**'")

    def _token(self, pattern: re.Pattern[str], what: str) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise self._wrong(f"{what} is missing or holds a character it must not")
        self._at = match.end()
        return match.group()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, token: str) -> bool:
        if self._text.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self._wrong(f"{token!r} is missing")

    def _wrong(self, why: str) -> InvalidTemplate:
        return InvalidTemplate(f"{self._text!r}, character {self._at + 1}: {why}")
