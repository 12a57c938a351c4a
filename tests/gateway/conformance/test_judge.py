"""The judge refuses what it should: a runner that lets everything pass proves nothing."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.gateway.conformance.echo import Call
from tests.gateway.conformance.judge import Seen, verdict
from tests.gateway.conformance.table import Contract
from tests.gateway.conformance.wire import Answer

LINES = ("content-type", "application/x-ndjson")
EVENTS = ("content-type", "text/event-stream")
ERROR = b'{"error":{"code":404,"status":"NOT_FOUND","message":"m"}}'


def seen(contract: Contract, expected: dict[str, Any], *calls: Call, **answer: Any) -> Seen:
    case = {"kind": "rest", "rpc": "GetShelf", "expect": expected}
    return Seen(case, contract, Answer(**{"status": 200, "complete": True, **answer}), calls)


def call(contract: Contract, rpc: str = "GetShelf", **fields: Any) -> Call:
    request = type(contract.request(rpc))(**fields)
    return Call(rpc, [("a", "1")], 5.0, [request.SerializeToString()], ended=asyncio.Event())


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ({"status": 200}, {"status": 201}),
        ({"status": 200}, {"complete": False}),
        ({"status": 200}, {"trailing": b"x"}),
        ({"json": {"a": 1}}, {"body": b'{"a":"1"}'}),
        ({"json": {"a": 1}}, {"body": b'{"a":true}'}),
        ({"json": {"a": 0}}, {"body": b'{"a":-0}'}),
        ({"json": {"a": 1}}, {"body": b'{"a":2,"a":1}'}),
        ({"json": {}}, {"body": b"{"}),
        ({"grpc_code": "OK"}, {"body": ERROR, "status": 404}),
        ({"grpc_code": "NOT_FOUND"}, {"body": ERROR, "status": 400}),
        ({"text": "a"}, {"body": b"ab"}),
        ({"body_empty": True}, {"trailing": b"x"}),
        ({"body_lacks": ["x"]}, {"body": b"axb"}),
        ({"headers": {"a": {"present": True}}}, {}),
        ({"headers": {"a": {"equals": "1"}}}, {"headers": [("a", "1"), ("a", "2")]}),
        ({"max_ms": 5}, {"ms": 6.0}),
        ({"closes": True}, {}),
        ({"ends_uncleanly": True}, {}),
        ({"framing": ""}, {"headers": [LINES], "body": b"{}\n{}"}),
        ({"framing": ""}, {"headers": [LINES], "body": b""}),
        ({"framing": ""}, {"headers": [EVENTS], "body": b"data: {}\n"}),
        ({"stream": {"messages": [{"name": "a"}]}}, {"headers": [LINES], "body": b'{"name":"b"}\n'}),
        ({"stream": {"end": "OK"}}, {"headers": [LINES], "body": ERROR + b"\n"}),
        ({"stream": {"end": "OK"}}, {"headers": [LINES], "body": b"{}\n", "complete": False}),
    ],
)
def test_an_answer_that_is_not_as_expected(
    contract: Contract, expected: dict[str, Any], answer: dict[str, Any]
) -> None:
    assert verdict(seen(contract, {"called": True, **expected}, call(contract), **answer)) != []


@pytest.mark.parametrize(
    ("expected", "rpc", "fields"),
    [
        ({"called": False}, "GetShelf", {}),
        ({"called": True}, "GetBook", {}),
        ({"status": 200}, "GetBook", {}),
        ({"request": {"name": "x"}}, "GetShelf", {"name": "y"}),
        ({"request": {}}, "GetShelf", {"name": "y"}),
        ({"metadata": {"a": ["2"]}}, "GetShelf", {}),
        ({"metadata_lacks": ["a"]}, "GetShelf", {}),
        ({"metadata_has": ["b"]}, "GetShelf", {}),
        ({"deadline_at_most_ms": 1000}, "GetShelf", {}),
        ({"server_saw_cancel": True}, "GetShelf", {}),
        ({"server_calls": 2}, "GetShelf", {}),
    ],
)
def test_a_call_that_is_not_as_expected(
    contract: Contract, expected: dict[str, Any], rpc: str, fields: dict[str, Any]
) -> None:
    assert verdict(seen(contract, expected, call(contract, rpc, **fields))) != []


def test_a_success_that_no_service_gave(contract: Contract) -> None:
    assert verdict(seen(contract, {"status": 200})) != []
    assert verdict(seen(contract, {"status": 200}, call(contract), call(contract))) != []


def test_alternatives_count_whole_and_what_must_not_be_never(contract: Contract) -> None:
    found = seen(contract, {"status": 200}, status=400)
    refused: dict[str, Any] = {**found.case, "expect": {"status": 400, "called": False}}
    ours = replace(found, case={**found.case, "also_ok": [{"note": "words"}, {"status": 400}]})
    assert verdict(ours) == []
    assert verdict(replace(found, case={**found.case, "also_ok": [{"note": "words"}]})) != []
    passed = seen(contract, {}, call(contract, name="x"), status=422)
    alternative = {**refused, "also_ok": [{"status": 422}]}
    assert verdict(replace(passed, case=alternative)) != []  # it was called all the same
    forbidden = {**refused, "expect": {"status": 422}, "must_not": {"request": {"name": "x"}}}
    assert verdict(replace(passed, case=forbidden)) != []
