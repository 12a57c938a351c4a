"""What the edge says about itself."""

from copy import deepcopy
from typing import Any

import orjson
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway import app
from gateway.encode import Encoder
from services.cli import contracts
from tests.gateway.world import Client, World

Document = dict[str, Any]


def document_of(files: FileDescriptorSet) -> Document:
    found: Document = orjson.loads(app.build(files, ["127.0.0.1:1"]).openapi)
    return found


@pytest.fixture(scope="module")
def api(documented: World) -> Document:
    return document_of(documented.files)


def operation(api: Document, method: str, path: str) -> Document:
    found: Document = api["paths"][path][method]
    return found


def parameters(api: Document, method: str, path: str) -> dict[str, Any]:
    """By name; those shared are looked up."""
    found = [
        api["components"]["parameters"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one
        for one in operation(api, method, path)["parameters"]
    ]
    return {one["name"]: one for one in found}


def body(api: Document, method: str, path: str) -> Document:
    found: Document = operation(api, method, path)["requestBody"]["content"]["application/json"]["schema"]
    return found


def book(api: Document) -> Document:
    found: Document = api["components"]["schemas"]["documented.v1.Book"]
    return found


def ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def test_it_is_valid_openapi_for_either_contract(api: Document, world: World) -> None:
    for document in (api, document_of(world.files)):
        assert document["openapi"].startswith("3.1")
        assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_the_same_descriptors_make_the_same_bytes(documented: World) -> None:
    bare = FileDescriptorSet.FromString(documented.files.SerializeToString())
    for file in bare.file:
        file.ClearField("source_code_info")  # it goes by places, which are about to change
    turned = FileDescriptorSet(file=reversed(bare.file))
    for file in turned.file:
        for service in file.service:
            methods = list(reversed(service.method))
            del service.method[:]
            service.method.extend(methods)
    first, second = (app.build(files, ["127.0.0.1:1"]).openapi for files in (bare, turned))
    assert first == second


def test_a_set_without_comments_makes_a_document_too(documented: World) -> None:
    bare = deepcopy(documented.files)
    for file in bare.file:
        file.ClearField("source_code_info")
    document = document_of(bare)
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert operation(document, "get", "/v1/books/{id}")["summary"] == "GetBook"
    assert "description" not in book(document)["properties"]["bookId"]


def test_every_place_is_there_once_and_what_http_tools_do_not_know_is_not(api: Document) -> None:
    assert {path: sorted(item) for path, item in api["paths"].items()} == {
        "/v1/attic/{name}": ["get"],
        "/v1/books/{id}": ["delete", "get", "patch", "put"],
        "/v1/books/{id}/cover": ["get", "put"],
        "/v1/books/{id}:watch": ["get"],
        "/v1/rooms/{name_1}/books/{name_2}": ["get"],
        "/v1/shelves/{shelf_id}/books": ["post"],
    }
    ids = [one["operationId"] for item in api["paths"].values() for one in item.values()]
    assert len(ids) == len(set(ids))
    assert "documented.v1.Library.GetBook_2" in ids
    assert api["info"]["title"] == "documented.v1"
    assert api["tags"] == [{"name": "documented.v1.Library", "description": "Keeps books."}]


def test_comments_are_descriptions(api: Document) -> None:
    create = operation(api, "post", "/v1/shelves/{shelf_id}/books")
    assert create["summary"] == "Adds a book."
    assert create["description"].startswith("ALREADY_EXISTS, reason `BOOK_EXISTS`")
    assert book(api)["description"] == "A book."
    assert book(api)["properties"]["bookId"]["description"] == "Its id."
    binding = api["components"]["schemas"]["documented.v1.Book.Binding"]
    assert binding["description"] == (
        "How it is bound.\n\n- `BINDING_UNSPECIFIED`: Nobody knows.\n- `BINDING_HARD`: Hard."
    )
    assert operation(api, "delete", "/v1/books/{id}")["deprecated"] is True


@pytest.mark.parametrize(
    ("field", "schema"),
    [
        ("bookId", {"type": "string", "format": "uuid", "description": "Its id."}),
        ("title", {"type": "string", "minLength": 1, "maxLength": 200}),
        (
            "pages",
            {"type": ["string", "integer"], "format": "int64", "exclusiveMinimum": 0, "maximum": 100_000},
        ),
        ("binding", {"type": "string", "enum": ["BINDING_HARD", "BINDING_SOFT"]}),
        (
            "tags",
            {
                "type": "array",
                "items": {"type": "string", "pattern": "^[a-z]+$"},
                "minItems": 1,
                "maxItems": 5,
                "uniqueItems": True,
            },
        ),
        (
            "notes",
            {
                "type": "object",
                "additionalProperties": {"type": "string", "maxLength": 9},
                "maxProperties": 3,
            },
        ),
        ("createTime", {"type": "string", "format": "date-time", "readOnly": True}),
        ("loan", {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"}),
        ("sequel", ref("documented.v1.Book")),
        ("scan", {"type": "string", "contentEncoding": "base64"}),
        ("person", {"type": "string", "description": "At most one of `person`, `house`."}),
        (
            "house",
            {
                "type": "integer",
                "format": "int32",
                "enum": [1, 2],
                "description": "At most one of `person`, `house`.",
            },
        ),
        ("note", {"type": "string", "minLength": 1}),
        ("maybe", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ("oldBinding", {**ref("documented.v1.Book.Binding"), "deprecated": True}),
        (
            "isbn",
            {
                "type": "string",
                "minLength": 13,
                "maxLength": 13,
                "description": "Rule: must have a valid check digit.",
            },
        ),
    ],
)
def test_types_and_rules_are_json_schema(api: Document, field: str, schema: Document) -> None:
    assert book(api)["properties"][field] == schema


def test_what_a_request_needs_is_required_and_what_a_reply_may_lack_is_not(api: Document) -> None:
    assert "required" not in book(api)
    draft = api["components"]["schemas"]["documented.v1.Draft"]
    assert draft["required"] == ["title"]
    create = body(api, "post", "/v1/shelves/{shelf_id}/books")
    assert create["required"] == ["draft", "mail"]  # the edge makes a request id
    put = body(api, "put", "/v1/books/{id}")
    assert put["required"] == ["title", "pages", "binding", "tags", "weight"]
    assert "required" not in body(api, "patch", "/v1/books/{id}")


def test_a_body_lacks_what_the_path_says_and_takes_nothing_unknown(api: Document) -> None:
    create = body(api, "post", "/v1/shelves/{shelf_id}/books")
    assert list(create["properties"]) == ["requestId", "draft", "mail", "dry"]
    assert create["additionalProperties"] is False
    put = body(api, "put", "/v1/books/{id}")
    assert "bookId" not in put["properties"]
    assert operation(api, "put", "/v1/books/{id}")["requestBody"]["required"] is True
    cover = operation(api, "put", "/v1/books/{id}/cover")["requestBody"]
    assert cover == {"content": {"*/*": {"schema": {}}}, "required": True}


def test_path_and_query_parameters_are_those_the_route_takes(api: Document) -> None:
    get = parameters(api, "get", "/v1/books/{id}")
    assert {name: one["in"] for name, one in get.items()} == {
        "id": "path",
        "name": "query",
        "filter.least": "query",
        "filter.binding": "query",
        "years": "query",
    }
    assert get["filter.least"] == {
        "name": "filter.least",
        "in": "query",
        "schema": {"type": "integer", "format": "int64"},
        "description": "At least.",
    }
    assert get["years"]["schema"] == {
        "type": "array",
        "items": {"type": "integer", "format": "int64"},
        "maxItems": 3,
    }
    many = parameters(api, "get", "/v1/attic/{name}")["name"]
    assert "several segments" in many["description"]
    assert set(parameters(api, "get", "/v1/rooms/{name_1}/books/{name_2}")) >= {"name_1", "name_2"}


def test_writes_with_a_request_id_take_an_idempotency_key(api: Document) -> None:
    takers = {
        (method, path)
        for path, item in api["paths"].items()
        for method in item
        if "Idempotency-Key" in parameters(api, method, path)
    }
    place = "/v1/books/{id}"
    assert takers == {
        ("post", "/v1/shelves/{shelf_id}/books"),
        ("patch", place),
        ("put", place),
        ("delete", place),
    }
    assert "requestId" not in parameters(api, "delete", place)


def test_a_success_is_what_the_policy_says(api: Document) -> None:
    created = operation(api, "post", "/v1/shelves/{shelf_id}/books")["responses"]
    assert set(created) == {"201", "400", "404", "409", "503", "504", "default"}
    assert list(created["201"]["headers"]) == ["Location"]
    assert created["201"]["content"]["application/json"]["schema"] == ref("documented.v1.Book")
    assert "204" in operation(api, "delete", "/v1/books/{id}")["responses"]
    assert "content" in operation(api, "put", "/v1/books/{id}/cover")["responses"]["200"]  # no policy: {}
    title = operation(api, "get", "/v1/attic/{name}")["responses"]["200"]["content"]["application/json"]
    assert title["schema"] == {"type": "string", "minLength": 1, "maxLength": 200}
    cover = operation(api, "get", "/v1/books/{id}/cover")["responses"]["200"]
    assert cover["content"] == {"*/*": {"schema": {}}}


def test_a_stream_is_told_in_both_its_forms(api: Document) -> None:
    watch = operation(api, "get", "/v1/books/{id}:watch")
    assert watch["responses"]["200"]["content"] == {
        kind: {"schema": ref("documented.v1.Book")} for kind in ("text/event-stream", "application/x-ndjson")
    }
    assert "come back with `Last-Event-ID`" in watch["responses"]["200"]["description"]
    assert "Last-Event-ID" in parameters(api, "get", "/v1/books/{id}:watch")


def test_errors_that_a_comment_names_are_told_in_its_words(api: Document) -> None:
    responses = operation(api, "post", "/v1/shelves/{shelf_id}/books")["responses"]
    assert responses["409"]["description"] == (
        "ALREADY_EXISTS, reason `BOOK_EXISTS`, if it is there; reason `ISBN_TAKEN`."
    )
    assert responses["404"]["description"] == "NOT_FOUND, reason `NO_SHELF`."
    assert responses["404"]["content"]["application/json"]["schema"] == ref("Error")
    assert responses["default"] == {"$ref": "#/components/responses/Error"}


@pytest.mark.asyncio(loop_scope="module")
async def test_it_is_served_and_its_errors_are_the_edges_errors(edge: Client) -> None:
    response = await edge("GET", "/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.headers["cache-control"] == "public, max-age=300"
    api = response.json()
    validator = Draft202012Validator({**ref("Error"), "components": api["components"]})
    for refused in (
        await edge("GET", "/nothing"),
        await edge("POST", "/v1/echo", json={"nonsense": 1}),
        await edge("GET", "/v1/shelves/1?pageSize=x"),
    ):
        validator.validate(refused.json())
    assert not validator.is_valid({"error": {"code": "400"}})


def test_what_the_edge_prints_fits_what_it_says(documented: World, api: Document) -> None:
    message = documented.new(
        "documented.v1.Book",
        book_id="0f8fad5b-d9cb-469f-a165-70867728950e",
        title="T",
        pages=1 << 53,
        binding=1,
        tags=["a"],
        notes={"a": "b"},
        create_time={"seconds": 1},
        loan={"seconds": 3, "nanos": 5_000_000},
        weight=0.75,
        sequel={"title": "U", "weight": float("nan")},
        scan=b"\xff",
        house=2,
        maybe={"value": "x"},
    )
    printed = Encoder(documented.pool).message(message.DESCRIPTOR)(message)
    schema = {**ref("documented.v1.Book"), "components": api["components"]}
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert [error.json_path for error in validator.iter_errors(printed)] == []
    assert not validator.is_valid({**printed, "tags": ["a", "a"]})
    assert not validator.is_valid({**printed, "bookId": "x"})


# -- who may call ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop() -> Document:
    return document_of(FileDescriptorSet.FromString(contracts.descriptor_set()))


def test_the_shops_own_document_is_valid_and_the_same_each_time(shop: Document) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(shop).iter_errors()] == []
    assert document_of(FileDescriptorSet.FromString(contracts.descriptor_set())) == shop


def test_what_to_show_follows_from_who_may_call(shop: Document) -> None:
    schemes = shop["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["apiKey"]["name"]) == ("bearer", "X-API-Key")
    order = operation(shop, "get", "/api/v1/orders/{order_id}")
    assert order["security"] == [{"bearer": []}, {"apiKey": []}]
    assert {"401", "403"} <= order["responses"].keys()
    assert "whoever it belongs to" in order["description"]
    assert "`order:read`" in order["description"]
    signing_up = operation(shop, "post", "/api/v1/users")
    assert "security" not in signing_up
    assert "401" not in signing_up["responses"]


def test_a_method_with_a_limit_of_its_own_tells_of_429(shop: Document) -> None:
    signing_up = operation(shop, "post", "/api/v1/users")["responses"]["429"]
    assert signing_up == {"$ref": "#/components/responses/TooManyRequests"}
    assert "Retry-After" in shop["components"]["responses"]["TooManyRequests"]["headers"]
    # Its comment names the code too, for a reason of its own; the headers stay.
    signing_in = operation(shop, "post", "/api/v1/sessions")["responses"]["429"]
    assert "SIGN_IN_LOCKED" in signing_in["description"]
    assert "Retry-After" in signing_in["headers"]


def test_contracts_that_say_nothing_of_access_ask_for_nothing(api: Document) -> None:
    assert "securitySchemes" not in api["components"]
    assert not [item for path in api["paths"].values() for item in path.values() if "security" in item]
