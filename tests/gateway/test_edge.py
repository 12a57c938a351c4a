"""HTTP in, gRPC behind, everything real."""

import asyncio
import re
import uuid
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from services.chassis import telemetry
from tests.gateway.world import Client, Seen

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}


def error(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    assert found["code"] == response.status_code
    return found


def reason(response: httpx.Response) -> str:
    info = next(d for d in error(response)["details"] if d["@type"].endswith("ErrorInfo"))
    return str(info["reason"])


def violations(response: httpx.Response) -> dict[str, str]:
    bad = next(d for d in error(response)["details"] if d["@type"].endswith("BadRequest"))
    return {violation["field"]: violation["description"] for violation in bad["fieldViolations"]}


async def abort(context: Any, code: grpc.StatusCode, message: str, *details: Any) -> None:
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    await context.abort(code, message, (("grpc-status-details-bin", status.SerializeToString()),))


# -- paths and queries -----------------------------------------------------------------------------


async def test_path_and_query_make_one_message(edge: Client) -> None:
    response = await edge(
        "GET",
        "/v1/shelves/a%2Fb?tags=x&tags=y+z&filter.color=COLOR_RED&filter.not.not.sizes=9007199254740993"
        "&filter.since=2026-01-01T00:00:00Z&filter.atMost=0&filter.author=me&pageSize=5&name=",
    )
    assert response.status_code == 200
    request = edge.received("GetShelfRequest")
    assert (request.shelf_id, list(request.tags), request.page_size) == ("a/b", ["x", "y z"], 5)
    assert (request.filter.color, request.filter.author) == (1, "me")
    assert list(getattr(getattr(request.filter, "not"), "not").sizes) == [9007199254740993]
    assert request.filter.since.seconds == 1_767_225_600
    assert request.filter.HasField("at_most")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("nonsense=1", "nonsense"),
        ("shelf_id=forged", "shelf_id"),
        ("shelfId=forged", "shelfId"),
        ("pageSize=1&page_size=2", "page_size"),
        ("pageSize=1&pageSize=1", "pageSize"),
        ("pageSize=1_0", "pageSize"),
        ("pageSize=", "pageSize"),
        ("filter=x", "filter"),
        ("filter.nonsense=x", "filter.nonsense"),
        ("tags.x=1", "tags.x"),
        ("filter.author=a&filter.unread=true", "filter.unread"),
        ("filter.since=yesterday", "filter.since"),
        ("name=%ff", "query"),
        ("name=%zz", "query"),
    ],
)
async def test_a_query_that_means_nothing_is_refused_by_name(edge: Client, query: str, field: str) -> None:
    response = await edge("GET", f"/v1/shelves/1?{query}")
    assert response.status_code == 400
    assert list(violations(response)) == [field]
    assert edge.backend.calls == []


async def test_resource_names_span_segments(edge: Client) -> None:
    await edge("GET", "/v1/paths/a/b%20c/d%2Fe/meta")
    assert edge.received("GetShelfRequest").name == "paths/a/b c/d%2Fe"


@pytest.mark.parametrize(
    ("method", "path", "status", "why"),
    [
        ("GET", "/nothing", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/v1/shelves/", 404, "ROUTE_NOT_FOUND"),
        ("POST", "/edge.v1.Shelves/Hidden", 404, "ROUTE_NOT_FOUND"),
        ("POST", "/v1/shelves/1", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/shelves/%zz", 400, "MALFORMED_REQUEST"),
        ("POST", "/v1/shelves:collect", 501, "STREAMS_NOT_OFFERED"),
        ("GET", "/metrics", 404, "ROUTE_NOT_FOUND"),
    ],
)
async def test_what_is_not_there_is_refused_in_one_shape(
    edge: Client, method: str, path: str, status: int, why: str
) -> None:
    response = await edge(method, path)
    assert (response.status_code, reason(response)) == (status, why)
    assert response.headers["content-type"] == "application/json"
    assert edge.backend.calls == []


async def test_a_405_and_options_tell_the_methods_there_are(edge: Client) -> None:
    refused = await edge("POST", "/v1/shelves/1")
    asked = await edge("OPTIONS", "/v1/shelves/1")
    assert asked.status_code == 204
    for response in (refused, asked):
        assert response.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"


async def test_head_is_get_without_its_body(edge: Client) -> None:
    response = await edge("HEAD", "/v1/shelves/7")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "2"
    assert edge.received("GetShelfRequest").shelf_id == "7"


# -- bodies ----------------------------------------------------------------------------------------


async def test_a_body_field_path_and_query_meet_in_one_message(edge: Client) -> None:
    response = await edge("PUT", "/v1/shelves/7?requestId=r", json={"title": "T", "shelfId": "7"})
    assert response.status_code == 200
    request = edge.received("UpdateShelfRequest")
    assert (request.shelf.shelf_id, request.shelf.title, request.request_id) == ("7", "T", "r")
    assert list(request.update_mask.paths) == []


async def test_a_body_that_contradicts_the_path_is_refused(edge: Client) -> None:
    response = await edge("PUT", "/v1/shelves/7", json={"shelfId": "8"})
    assert violations(response) == {"shelf.shelf_id": "differs between path and body"}
    assert edge.backend.calls == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b'{"text": "\xff"}', "body"),
        (b"null", ""),
        (b"[]", ""),
        (b"5", ""),
        (b'{"nonsense": 1}', "nonsense"),
        (b'{"int32Value": "x"}', "int32_value"),
        (b'{"text": "a", "text": "b"}', "text"),
    ],
)
async def test_a_bad_body_is_refused_by_field(edge: Client, body: bytes, field: str) -> None:
    response = await edge("POST", "/v1/echo", content=body, headers=JSON)
    assert (response.status_code, error(response)["status"]) == (400, "INVALID_ARGUMENT")
    assert list(violations(response)) == [field]
    assert not re.search(r"Traceback|Error\b.*line|orjson|\.py", response.text)
    assert edge.backend.calls == []


async def test_every_violation_of_a_body_comes_at_once(edge: Client) -> None:
    response = await edge("POST", "/v1/echo", json={"a": 1, "int32Value": "x", "child": {"flag": 3}})
    assert set(violations(response)) == {"a", "int32_value", "child.flag"}


async def test_query_parameters_beside_a_whole_body_are_refused(edge: Client) -> None:
    response = await edge("POST", "/v1/echo?text=x", json={})
    assert list(violations(response)) == ["text"]
    assert list(violations(await edge("PUT", "/v1/shelves/7?shelf.title=x", json={}))) == ["shelf.title"]


async def test_a_missing_body_is_named_where_something_must_be_stored(edge: Client) -> None:
    response = await edge("PUT", "/v1/shelves/7")
    assert (response.status_code, list(violations(response))) == (400, ["shelf"])
    assert edge.backend.calls == []
    action = await edge("POST", "/v1/shelves/7:close")
    assert action.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=utf-16"}, 415),
        ({"content-type": "application/jsonp"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "Application/JSON ; charset=UTF-8"}, 200),
        ({}, 200),
    ],
)
async def test_only_plain_json_is_read_as_json(edge: Client, headers: dict[str, str], status: int) -> None:
    response = await edge("POST", "/v1/echo", content=b"{}", headers=headers)
    assert response.status_code == status
    assert len(edge.backend.calls) == (status == 200)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_too_large_is_refused_before_any_call(edge: Client, announced: bool) -> None:  # noqa: FBT001
    body = b'{"text": "' + b"x" * 200_000 + b'"}'

    async def in_parts() -> Any:
        for at in range(0, len(body), 10_000):
            yield body[at : at + 10_000]

    response = await edge("POST", "/v1/echo", content=body if announced else in_parts(), headers=JSON)
    assert (response.status_code, reason(response)) == (413, "BODY_TOO_LARGE")
    assert edge.backend.calls == []


async def test_raw_bodies_pass_as_they_are(edge: Client) -> None:
    body = edge.world.new("google.api.HttpBody", content_type="image/png", data=b"\x89PNG")
    edge.answer("Upload", body)
    response = await edge(
        "PUT", "/v1/pictures/cat", content=b"\0\xffraw", headers={"content-type": "image/gif"}
    )
    picture = edge.received("Picture")
    assert (picture.name, picture.content.content_type) == ("cat", "image/gif")
    assert picture.content.data == b"\0\xffraw"
    assert (response.content, response.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert response.headers["x-content-type-options"] == "nosniff"


# -- masks and request ids -------------------------------------------------------------------------


async def test_a_patch_without_a_mask_changes_what_its_body_names(edge: Client) -> None:
    body = {
        "shelfId": "7",
        "etag": "e",
        "createTime": "2026-01-01T00:00:00Z",
        "title": None,
        "owner": {"name": "x"},
        "labels": {"a": "b"},
    }
    assert (await edge("PATCH", "/v1/shelves/7", json=body)).status_code == 200
    request = edge.received("UpdateShelfRequest")
    assert set(request.update_mask.paths) == {"title", "owner.name", "labels"}
    assert request.shelf.etag == "e"


async def test_a_mask_that_is_sent_is_the_mask(edge: Client) -> None:
    await edge("PATCH", "/v1/shelves/7?updateMask=owner.phone", json={"title": "x"})
    assert list(edge.received("UpdateShelfRequest").update_mask.paths) == ["owner.phone"]


@pytest.mark.parametrize("body", [{}, {"etag": "e"}, {"shelfId": "7"}])
async def test_a_patch_of_nothing_is_refused_for_an_empty_mask_means_everything(
    edge: Client, body: dict[str, str]
) -> None:
    response = await edge("PATCH", "/v1/shelves/7", json=body)
    assert response.status_code == 400
    assert edge.backend.calls == []


async def test_the_idempotency_key_becomes_the_request_id(edge: Client) -> None:
    for key in ("k-1", '"k-1"'):
        edge.backend.calls.clear()
        response = await edge(
            "POST", "/v1/shelves", json={"shelf": {"title": "x"}}, headers={"idempotency-key": key}
        )
        assert response.status_code == 200
        assert edge.received("CreateShelfRequest").request_id == "k-1"


async def test_a_write_without_a_key_gets_a_fresh_one_each_time(edge: Client) -> None:
    for _ in range(2):
        await edge("POST", "/v1/shelves", json={})
    ids = set()
    for call in edge.backend.calls:
        message = edge.world.new("CreateShelfRequest")
        message.ParseFromString(call.request)
        ids.add(str(uuid.UUID(message.request_id)))
    assert len(ids) == 2


async def test_others_contracts_get_no_request_id_they_did_not_ask_for(edge: Client) -> None:
    response = await edge("POST", "/legacy/ping", json={})
    assert (response.status_code, response.json()) == (200, {})
    assert edge.received("CreateShelfRequest").request_id == ""


async def test_a_key_that_contradicts_the_body_is_refused(edge: Client) -> None:
    key = {"idempotency-key": "a"}
    response = await edge("POST", "/v1/shelves", json={"requestId": "b"}, headers=key)
    assert list(violations(response)) == ["request_id"]
    assert edge.backend.calls == []
    assert (await edge("POST", "/v1/shelves", json={"requestId": "a"}, headers=key)).status_code == 200


async def test_a_read_has_no_use_for_a_key(edge: Client) -> None:
    response = await edge("GET", "/v1/shelves/1", headers={"idempotency-key": "k"})
    assert response.status_code == 200
    assert edge.backend.calls[0].metadata["idempotency-key"] == "k"


# -- replies ---------------------------------------------------------------------------------------


async def test_what_was_created_is_201_and_located(edge: Client) -> None:
    edge.answer("CreateShelf", edge.world.new("Shelf", shelf_id="a/b ü", title="T"))
    response = await edge("POST", "/v1/shelves", json={})
    assert response.status_code == 201
    assert response.headers["location"] == "/v1/shelves/a%2Fb%20%C3%BC"
    assert response.json() == {"shelfId": "a/b ü", "title": "T"}


async def test_nothing_is_204(edge: Client) -> None:
    response = await edge("DELETE", "/v1/shelves/1")
    assert (response.status_code, response.content) == (204, b"")
    assert "content-type" not in response.headers


async def test_a_response_body_is_a_field_of_the_reply(edge: Client) -> None:
    response = await edge("GET", "/v1/echo/title?text=abc")
    assert response.json() == "abc"


async def test_a_reply_without_json_form_is_500_without_a_word(edge: Client) -> None:
    edge.answer("Echo", edge.world.new("Everything", time={"nanos": -1}))
    with telemetry.captured() as lines:
        response = await edge("POST", "/v1/echo", json={})
    assert (response.status_code, error(response)["status"]) == (500, "INTERNAL")
    assert "timestamp" not in response.text
    assert any("timestamp" in line.get("why", "") for line in lines)


# -- errors ----------------------------------------------------------------------------------------

HTTP_OF = {
    "CANCELLED": 499, "UNKNOWN": 500, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504, "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429, "FAILED_PRECONDITION": 400,
    "ABORTED": 409, "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501, "INTERNAL": 500, "UNAVAILABLE": 503,
    "DATA_LOSS": 500, "UNAUTHENTICATED": 401,
}  # fmt: skip


@pytest.mark.parametrize(("code", "status"), HTTP_OF.items())
async def test_a_backends_refusal_keeps_its_code_and_words(edge: Client, code: str, status: int) -> None:
    async def refuse(context: Any, _seen: Seen) -> None:
        await context.abort(grpc.StatusCode[code], "so it is")

    edge.backend.answers["GetShelf"] = refuse
    response = await edge("GET", "/v1/shelves/1")
    assert response.status_code == status
    assert (error(response)["status"], error(response)["message"]) == (code, "so it is")
    assert ("www-authenticate" in response.headers) == (status == 401)


async def test_details_are_rendered_if_known_and_passed_raw_if_not(edge: Client) -> None:
    info = error_details_pb2.ErrorInfo(reason="OUT_OF_STOCK", domain="bodega", metadata={"sku": "1"})
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1200)
    secret = error_details_pb2.DebugInfo(stack_entries=["secret.py"])

    async def refuse(context: Any, _seen: Seen) -> None:
        status = status_pb2.Status(code=8, message="no")
        for detail in (info, retry, secret):
            status.details.add().Pack(detail)
        status.details.append(any_pb2.Any(type_url="type.googleapis.com/no.Such", value=b"\x01"))
        trailer = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no", trailer)

    edge.backend.answers["GetShelf"] = refuse
    response = await edge("GET", "/v1/shelves/1")
    assert error(response)["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "OUT_OF_STOCK",
            "domain": "bodega",
            "metadata": {"sku": "1"},
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.200s"},
        {"@type": "type.googleapis.com/no.Such", "value": "AQ=="},
    ]
    assert response.headers["retry-after"] == "2"


async def test_a_crash_behind_shows_none_of_its_text(edge: Client) -> None:
    async def crash(_context: Any, _seen: Seen) -> None:
        raise RuntimeError("secret")

    edge.backend.answers["GetShelf"] = crash
    response = await edge("GET", "/v1/shelves/1")
    assert (response.status_code, error(response)["status"]) == (500, "UNKNOWN")
    assert "secret" not in response.text
    assert "RuntimeError" not in response.text


# -- headers, deadlines, cancellation --------------------------------------------------------------


async def test_only_named_headers_reach_the_backend(edge: Client) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {
        "authorization": "Bearer t",
        "accept-language": "de",
        "traceparent": trace,
        "tracestate": "a=b",
        "x-bodega-caller": "workload:order",
        "grpcgateway-authorization": "x",
        "x-forwarded-user": "root",
        "grpc-tags-bin": "AA==",
        "cookie": "c=1",
    }
    await edge("GET", "/v1/shelves/1", headers=headers)
    got = edge.backend.calls[0].metadata
    assert got["authorization"] == "Bearer t"
    assert got["accept-language"] == "de"
    assert got["tracestate"] == "a=b"
    assert got["traceparent"].split("-")[1] == trace.split("-")[1]
    assert got["traceparent"] != trace
    assert not {"x-bodega-caller", "grpcgateway-authorization", "x-forwarded-user", "cookie"} & got.keys()


async def test_a_webhook_s_signature_reaches_the_backend(edge: Client) -> None:
    headers = {"webhook-id": "msg_1", "webhook-timestamp": "1614265330", "webhook-signature": "v1,a= v1,b="}
    await edge("POST", "/v1/shelves", json={}, headers=headers)
    assert headers.items() <= edge.backend.calls[0].metadata.items()
    twice = [*headers.items(), ("webhook-signature", "v1,c=")]
    refused = await edge("POST", "/v1/shelves", json={}, headers=twice)
    assert list(violations(refused)) == ["webhook-signature"]


async def test_ids_are_taken_over_or_made_and_given_back(edge: Client) -> None:
    made = await edge("GET", "/v1/shelves/1", headers={"x-request-id": "bad\tid"})
    assert made.headers["x-request-id"] == made.headers["x-correlation-id"]
    assert re.fullmatch("[0-9a-f]{32}", made.headers["x-request-id"])
    kept = await edge("GET", "/v1/nothing", headers={"x-request-id": "r1", "x-correlation-id": "c1"})
    assert (kept.headers["x-request-id"], kept.headers["x-correlation-id"]) == ("r1", "c1")
    assert edge.backend.calls[0].metadata["x-request-id"] == made.headers["x-request-id"]
    assert edge.backend.calls[0].metadata["traceparent"] == made.headers["traceparent"]


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({}, 1.5, 2.0),
        ({"x-request-timeout": "0.75"}, 0.5, 0.75),
        ({"grpc-timeout": "23S"}, 22, 23.0),
        ({"grpc-timeout": "900m", "x-request-timeout": "30"}, 0.6, 0.9),
        ({"x-request-timeout": "999999"}, 55, 60),
    ],
)
async def test_a_deadline_is_what_is_asked_or_the_contracts(
    edge: Client, headers: dict[str, str], least: float, most: float
) -> None:
    await edge("GET", "/v1/shelves/1", headers=headers)
    assert least < edge.backend.calls[0].time_remaining_s <= most


@pytest.mark.parametrize(
    "headers",
    [
        {"x-request-timeout": "soon"},
        {"x-request-timeout": "-1"},
        {"grpc-timeout": "5"},
        {"grpc-timeout": "123456789S"},
        {"idempotency-key": ""},
        {"idempotency-key": "k" * 256},
    ],
)
async def test_a_header_that_does_not_parse_is_named(edge: Client, headers: dict[str, str]) -> None:
    response = await edge("POST", "/v1/shelves", json={}, headers=headers)
    assert response.status_code == 400
    assert [field.lower() for field in violations(response)] == list(headers)
    assert edge.backend.calls == []


async def test_a_credential_given_twice_is_refused(edge: Client) -> None:
    response = await edge("GET", "/v1/shelves/1", headers=[("authorization", "a"), ("authorization", "b")])
    assert list(violations(response)) == ["authorization"]
    several = [("cookie", "a"), ("cookie", "b"), ("accept-language", "de"), ("accept-language", "en")]
    assert (await edge("GET", "/v1/shelves/1", headers=several)).status_code == 200
    assert edge.backend.calls[0].metadata["accept-language"] == "de, en"


async def stall(_context: Any, _seen: Seen) -> None:
    await asyncio.Event().wait()


async def test_a_deadline_that_passes_is_504_and_ends_the_call(edge: Client) -> None:
    edge.backend.answers["GetShelf"] = stall
    response = await edge("GET", "/v1/shelves/1", headers={"x-request-timeout": "0.1"})
    assert (response.status_code, reason(response)) == (504, "DEADLINE_EXCEEDED")
    async with asyncio.timeout(5):
        await edge.backend.calls[0].cancelled.wait()


async def test_a_client_that_leaves_takes_its_call_along(edge: Client) -> None:
    edge.backend.answers["GetShelf"] = stall
    patient = {"x-request-timeout": "60"}
    asking = asyncio.create_task(edge("GET", "/v1/shelves/1", headers=patient))
    async with asyncio.timeout(5):
        await edge.backend.arrived.wait()
        asking.cancel()
        await edge.backend.calls[0].cancelled.wait()


async def test_metadata_comes_back_by_an_allow_list(edge: Client) -> None:
    async def answer(context: Any, _seen: Seen) -> bytes:
        await context.send_initial_metadata(
            (("etag", "v1"), ("x-bodega-stale", "3"), ("x-internal", "secret"))
        )
        return b""

    edge.backend.answers["GetShelf"] = answer
    response = await edge("GET", "/v1/shelves/1")
    assert response.headers["etag"] == "v1"
    assert response.headers["x-bodega-stale"] == "3"
    assert "x-internal" not in response.headers


# -- operations ------------------------------------------------------------------------------------


async def test_health_is_on_both_ports_and_metrics_on_one(edge: Client) -> None:
    await edge("GET", "/v1/paths/counted/meta")
    for path in ("live", "ready", "startup"):
        assert (await edge("GET", f"/health/{path}")).status_code == 200
        operations = await edge.http.get(f"http://127.0.0.1:{edge.operations_port}/health/{path}")
        assert operations.status_code == 200
    public, full = (
        await edge("GET", "/health/ready"),
        await edge.http.get(f"http://127.0.0.1:{edge.operations_port}/health/ready"),
    )
    assert public.json() == {"status": "ready"}
    assert full.json()["backends"] == {f"127.0.0.1:{edge.backend.port}": "ready"}
    metrics = await edge.http.get(f"http://127.0.0.1:{edge.operations_port}/metrics")
    labels = 'http_method="GET",http_route="/v1/{name=paths/**}/meta"'
    assert re.search(
        re.escape(f'http_server_requests_total{{{labels},http_status="200"}}') + r" \d", metrics.text
    )
    assert f"http_server_request_seconds_count{{{labels}}}" in metrics.text
    assert 'bodega_build_info{version="' in metrics.text
    assert "bodega_start_time_seconds 1" in metrics.text


async def test_a_request_is_one_line_with_its_trace_and_no_content(edge: Client) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "x-request-id": "r1"}
    with telemetry.captured() as lines:
        await edge("GET", "/v1/shelves/secret-id?name=secret-name", headers=headers)
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["status"], line["trace_id"], line["request_id"]) == (200, trace, "r1")
    assert (line["route"], line["rpc"]) == ("/v1/shelves/{shelf_id}", "/edge.v1.Shelves/GetShelf")
    assert "secret" not in str(line)
