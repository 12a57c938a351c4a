"""Every case of the table, each a test under its own name. README.md says where they come from."""

import asyncio
import base64
import contextlib
from collections import Counter
from typing import Any

import pytest
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2

from gateway import app, conformance, http1
from gateway.http_rule import InvalidTemplate
from gateway.site import CannotServe
from tests.gateway.conformance import wire
from tests.gateway.conformance.conftest import Bench
from tests.gateway.conformance.echo import Rude
from tests.gateway.conformance.judge import Seen, verdict
from tests.gateway.conformance.table import CASES, TABLE, Case, Contract, cases
from tests.gateway.conformance.wire import Answer

PATIENCE_S = 5.0
TRIES_MAX = 3


def test_the_table_is_whole() -> None:
    assert Counter(case["level"] for case in CASES) == {"must": 342, "should": 83, "may": 11}
    assert len({case["id"] for case in CASES}) == len(CASES)
    kinds = ("rest", "raw", "route", "template", "descriptor")
    assert sum(len(cases(kind)) for kind in kinds) == len(CASES)


@pytest.mark.parametrize("case", cases("template"))
def test_template(case: Case) -> None:
    expected = case["expect"]
    try:
        found = conformance.parse_template(case["template"])
    except InvalidTemplate:
        found = {"valid": False}
    assert {name: found.get(name) for name in expected if name != "why"} == {
        name: claim for name, claim in expected.items() if name != "why"
    }


@pytest.mark.parametrize("case", cases("route"))
def test_route(case: Case) -> None:
    http = case["http"]
    found = conformance.route(TABLE["route_sets"][case["routes"]], http["method"], wire.target(http))
    outcomes = [case["expect"], *case.get("also_ok", ())]
    known = ("match", "route", "bindings", "status")
    claims = [{name: claim for name, claim in one.items() if name in known} for one in outcomes]
    assert any(found | claim == found for claim in claims if claim), (found, claims)


@pytest.mark.parametrize("case", cases("descriptor"))
def test_descriptor(case: Case, contract: Contract) -> None:
    files = descriptor_pb2.FileDescriptorSet()
    files.CopyFrom(contract.files)
    file = next(file for file in files.file if file.package == "conformance.v1")
    method = file.service[0].method.add(name="Added", input_type=f".{case['message']}")
    method.output_type = method.input_type
    rule = http_pb2.HttpRule(post=case["template"], body=case["body"] or "")
    method.options.Extensions[annotations_pb2.http].CopyFrom(rule)
    assert case["expect"]["valid"] is False
    with pytest.raises(CannotServe, match=r"^conformance\.v1\.Conformance/Added: "):
        app.build(files, ["127.0.0.1:1"])


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("case", cases("rest"))
async def test_rest(case: Case, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    if case["id"] == "ER-031":  # waits for the edge's own deadline, whatever that is
        for route in bench.gateway.site.routes:
            monkeypatch.setattr(route, "deadline_s", 0.2)
    for _ in range(TRIES_MAX if is_by_the_clock(case) else 1):
        bench.echo.calls.clear()
        wrong = await tried(case, bench)
        if not wrong:
            break
    assert wrong == []


def is_by_the_clock(case: Case) -> bool:
    """Whether a busy machine may let its time pass before what it is about has begun."""
    timed = "grpc-timeout" in case["http"].get("headers", {})
    return timed or any("_ms" in name or "cancel" in name for name in case["expect"])


async def tried(case: Case, bench: Bench) -> list[str]:
    """What is wrong."""
    expected = case["expect"]
    if "server" in case:
        answer = await before_a_rude_backend(case, bench)
    else:
        answer = await asked(case, bench.port, expected)
    if bench.echo.calls and any(name.startswith("server_saw_cancel") for name in expected):
        within_s = expected.get("server_saw_cancel_within_ms", PATIENCE_S * 1000) / 1000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await bench.echo.calls[0].ended.wait()
    return verdict(Seen(case, bench.contract, answer, bench.echo.calls))


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("case", cases("raw"))
async def test_raw(case: Case, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = case["expect"]
    if "closes_within_ms" in expected:
        monkeypatch.setattr(http1, "ARRIVAL_MAX_S", 0.2)
    data = base64.b64decode(case["raw_b64"]) if "raw_b64" in case else wire.built(case["raw_build"]).encode()
    outcomes = (expected, *case.get("also_ok", ()))
    answer = await wire.exchange(bench.port, data, closes=any("closes" in one for one in outcomes))
    assert verdict(Seen(case, bench.contract, answer, bench.echo.calls)) == []


async def asked(case: Case, port: int, expected: dict[str, Any]) -> Answer:
    data = wire.request(case["http"], f"127.0.0.1:{port}")
    leaves_ms = expected.get("client_disconnects_after_ms")
    return await wire.exchange(
        port, data, method=case["http"]["method"], hangs_up_after_s=leaves_ms / 1000 if leaves_ms else None
    )


async def before_a_rude_backend(case: Case, bench: Bench) -> Answer:
    rude = Rude()
    server = await asyncio.start_server(rude.serve, "127.0.0.1", 0)
    backend = server.sockets[0].getsockname()[1]
    async with server, bench.in_front_of(backend) as other:
        answer = await asked(case, other.port, case["expect"])
    assert rude.requests == 1
    return answer
