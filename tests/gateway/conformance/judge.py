"""Compares what was seen with what a case expects: a set of named claims, each with a check."""

import base64
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from tests.gateway.conformance.echo import Call
from tests.gateway.conformance.table import Case, Contract
from tests.gateway.conformance.wire import Answer

_SAID_TO_PEOPLE: Final = frozenset(("note", "peer", "parse", "json_exact_types"))
_DEADLINE_SLACK_MS: Final = 50


@dataclass(frozen=True)
class Seen:
    """Everything that one case brought about."""

    case: Case
    contract: Contract
    answer: Answer
    calls: Sequence[Call]

    @property
    def call(self) -> Call:
        assert len(self.calls) == 1, f"{len(self.calls)} calls"
        return self.calls[0]


def verdict(seen: Seen) -> list[str]:
    """What is wrong; nothing, if the expectation or one of its alternatives holds."""
    case = seen.case
    forbidden = case.get("must_not")
    if forbidden and any(_equals(seen, call, forbidden["request"]) for call in seen.calls):
        return [f"must_not: {forbidden}"]
    wrong = complaints(seen, case["expect"])
    alternatives = [_whole(case["expect"], other) for other in case.get("also_ok", ())]
    if wrong and any(other and not complaints(seen, other) for other in alternatives):
        return []
    return wrong


def _whole(expected: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """An alternative with what it takes for granted; empty if it is only words."""
    found = {name: claim for name, claim in other.items() if name not in _SAID_TO_PEOPLE}
    if found and not {"status", "closes"} & found.keys():
        found = {
            name: expected[name] for name in ("status", "status_in", "called") if name in expected
        } | found
    if found.get("status", 0) >= 400 and expected.get("called") is False:
        found.setdefault("called", False)
    return found


def complaints(seen: Seen, expected: Mapping[str, Any]) -> list[str]:
    wrong = list(_taken_for_granted(seen, expected))
    for name, claim in expected.items():
        if name in _SAID_TO_PEOPLE:
            continue
        try:
            holds = _CHECKS[name](seen, claim)
        except (AssertionError, ValueError, DecodeError, json_format.ParseError) as error:
            wrong.append(f"{name}: {error}")
        else:
            if not holds:
                wrong.append(f"{name}: not {claim!r}")
    return wrong


def _taken_for_granted(seen: Seen, expected: Mapping[str, Any]) -> Iterator[str]:
    answer = seen.answer
    may_break_off = (
        "ends_uncleanly" in expected
        or "client_disconnects_after_ms" in expected
        or expected.get("stream", {}).get("end", "OK") != "OK"
    )
    if seen.case["kind"] == "rest" and not may_break_off:
        if not answer.complete:
            yield "the answer is not whole"
        if answer.trailing:
            yield f"bytes behind the answer: {answer.trailing[:60]!r}"
    succeeds = bool({"status", "status_in"} & expected.keys()) and 200 <= answer.status < 300
    must_call = seen.case.get("rpc") is not None and "called" not in expected
    if succeeds and must_call and [call.rpc for call in seen.calls] != [seen.case["rpc"]]:
        yield "a success that no service gave"


def parsed(text: str) -> Any:
    """JSON as a strict reader takes it: no NaN, no key twice; -0 keeps its sign."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        assert len(found) == len(pairs), "a key twice"
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    def integer(digits: str) -> float:
        return -0.0 if digits == "-0" else int(digits)

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_int=integer)


def _same(a: Any, b: Any) -> bool:
    """Equal, with types: 1 is neither true nor "1", and -0 is not 0."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if {type(a), type(b)} <= {int, float}:
        return bool(a == b) and math.copysign(1, a) == math.copysign(1, b)
    return type(a) is type(b) and bool(a == b)


# -- requests --------------------------------------------------------------------------------------


def _called(seen: Seen, claim: bool) -> bool:  # noqa: FBT001
    if not claim:
        return not seen.calls
    return seen.case.get("rpc") in (None, seen.call.rpc)


def _equals(seen: Seen, call: Call, value: Any) -> bool:
    got = seen.contract.request(call.rpc)
    got.ParseFromString(call.requests[0])
    wanted = seen.contract.filled(seen.contract.request(call.rpc), value)
    return bytes(got.SerializeToString(deterministic=True)) == wanted.SerializeToString(deterministic=True)


def _mask(seen: Seen, claim: list[str] | None) -> bool:
    request = seen.contract.new("UpdateItemRequest")
    request.ParseFromString(seen.call.requests[0])
    return sorted(request.update_mask.paths) == sorted(claim or ())


def _metadata(seen: Seen) -> dict[str, list[str | bytes]]:
    found: dict[str, list[str | bytes]] = {}
    for name, value in seen.call.metadata:
        found.setdefault(name, []).append(value)
    return found


# -- answers ---------------------------------------------------------------------------------------


def _error(seen: Seen) -> dict[str, Any]:
    error: dict[str, Any] = parsed(seen.answer.text)["error"]
    assert error["code"] == seen.answer.status, "the code in the body is not the status"
    return error


def _headers(seen: Seen, claim: Mapping[str, Mapping[str, Any]]) -> bool:
    for name, rules in claim.items():
        got = seen.answer.header(name)
        for rule, wanted in rules.items():
            assert _HEADER_RULES[rule](got, wanted), f"{name} is {got!r}, not {rule} {wanted!r}"
    return True


_HEADER_RULES: Final[dict[str, Callable[[str | None, Any], bool]]] = {
    "equals": lambda got, wanted: got == wanted,
    "startswith": lambda got, wanted: got is not None and got.lower().startswith(wanted.lower()),
    "contains": lambda got, wanted: got is not None and wanted.lower() in got.lower(),
    "contains_all": lambda got, wanted: got is not None and all(w.lower() in got.lower() for w in wanted),
    "in": lambda got, wanted: got in wanted,
    "present": lambda got, wanted: (got is not None) == wanted,
    "absent": lambda got, wanted: (got is None) == wanted,
}


# -- streams ---------------------------------------------------------------------------------------


@dataclass
class _Stream:
    messages: list[Any] = field(default_factory=list)
    end: str = "OK"


def _stream_of(answer: Answer) -> _Stream:
    """Raises AssertionError or ValueError if a frame is not what its framing asks for."""
    kind = answer.header("content-type")
    found = _Stream(end="OK" if answer.complete else "CUT")
    if kind == "text/event-stream":
        frames = re.findall(r"^data: (.*)\n\n", answer.text, re.MULTILINE)
    else:
        assert kind == "application/x-ndjson", f"framing {kind}"
        assert not answer.body or answer.text.endswith("\n"), "the last line is not ended"
        frames = answer.text.splitlines()
    for frame in frames:
        value = parsed(frame)
        if isinstance(value, dict) and value.keys() == {"error"}:
            found.end = value["error"]["status"]
        else:
            found.messages.append(value)
    return found


def _stream(seen: Seen, claim: Mapping[str, Any]) -> bool:
    found = _stream_of(seen.answer)
    if "messages" in claim:
        contract, rpc = seen.contract, seen.case["rpc"]
        got, wanted = (
            [contract.filled(contract.reply(rpc), value) for value in values]
            for values in (found.messages, claim["messages"])
        )
        assert got == wanted, f"messages {found.messages}"
    return bool(found.end == claim.get("end", found.end))


# -- the table of checks ---------------------------------------------------------------------------

_CHECKS: Final[dict[str, Callable[[Seen, Any], bool]]] = {
    "status": lambda seen, claim: seen.answer.status == claim,
    "status_in": lambda seen, claim: seen.answer.status in claim,
    "first_line_contains": lambda seen, claim: claim in seen.answer.first_line,
    "headers": _headers,
    "json": lambda seen, claim: _same(parsed(seen.answer.text), claim),
    "text": lambda seen, claim: seen.answer.body == claim.encode(),
    "text_contains": lambda seen, claim: claim in seen.answer.text,
    "text_regex": lambda seen, claim: re.search(claim, seen.answer.text) is not None,
    "bytes_b64": lambda seen, claim: seen.answer.body == base64.b64decode(claim),
    "body_empty": lambda seen, claim: (not seen.answer.body and not seen.answer.trailing) == claim,
    "body_lacks": lambda seen, claim: not any(word in seen.answer.text for word in claim),
    "grpc_code": lambda seen, claim: _error(seen)["status"] == claim,
    "grpc_code_in": lambda seen, claim: _error(seen)["status"] in claim,
    "message": lambda seen, claim: _error(seen)["message"] == claim,
    "max_ms": lambda seen, claim: seen.answer.ms <= claim,
    "closes": lambda seen, claim: seen.answer.closed == claim,
    "closes_within_ms": lambda seen, claim: seen.answer.closed and seen.answer.ms <= claim,
    "ends_uncleanly": lambda seen, claim: (not seen.answer.complete) == claim,
    "called": _called,
    "request": lambda seen, claim: _called(seen, claim=True) and _equals(seen, seen.call, claim),
    "mask": _mask,
    "metadata": lambda seen, claim: all(_metadata(seen).get(name) == value for name, value in claim.items()),
    "metadata_has": lambda seen, claim: all(name in _metadata(seen) for name in claim),
    "metadata_lacks": lambda seen, claim: not any(name in _metadata(seen) for name in claim),
    "deadline_at_most_ms": lambda seen, claim: seen.call.left_s * 1000 <= claim + _DEADLINE_SLACK_MS,
    "server_calls": lambda seen, claim: len(seen.calls) == claim,
    "server_saw_cancel": lambda seen, claim: seen.call.cancelled == claim,
    # The runner waits no longer than this for it.
    "server_saw_cancel_within_ms": lambda seen, _: seen.call.cancelled,
    "client_disconnects_after_ms": lambda seen, _: bool(seen.calls),
    "received_messages": lambda seen, claim: seen.call.requests == claim,
    "stream": _stream,
    "framing": lambda seen, _: bool(_stream_of(seen.answer).messages),
}
