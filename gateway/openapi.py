"""The OpenAPI 3.1 document of a site: what its descriptors say, for people and tools that speak HTTP.

Everything is derived: comments become descriptions, `buf.validate` rules JSON Schema, the policy's
conventions headers and status codes. The same descriptors make the same bytes. https://spec.openapis.org/oas/v3.1.1.html
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from gateway import api_errors, fields, http_rule, schemas
from gateway.api_access import Security
from gateway.comments import Comments
from gateway.constraints import Schema
from gateway.fields import BadField
from gateway.framing import EVENTS, LINES
from gateway.http_rule import Template
from gateway.schemas import Schemas
from gateway.site import Route
from gateway.transcode import REQUEST_ID

PATH: Final = "/openapi.json"
VERSION: Final = "3.1.1"

_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_QUERY_DEPTH_MAX: Final = 3  # below it names get longer than anyone types; they work all the same
_VERSION_PART = re.compile(r"v[0-9]+((alpha|beta)[0-9]*)?")
_JSON: Final = "application/json"


def document(routes: Sequence[Route], files: Iterable[FileDescriptorProto]) -> bytes:
    """The document, as JSON."""
    files = list(files)
    comments, security = Comments(files), Security(files)
    listed = sorted(
        (route for route in routes if route.rule.http_method.lower() in _METHODS and not route.takes_stream),
        key=lambda route: (route.rule.template.text, route.rule.http_method),
    )
    described = Schemas(comments, [route.method.descriptor.output_type for route in listed])
    paths: dict[str, dict[str, Any]] = {}
    spellings = _spellings(listed)
    names = _operation_ids(routes)
    for route in listed:
        path = _Path(route.rule.template)
        spelling = spellings[path.shape]
        operation = _Operation(route, path.spelt(spelling), described, comments, security)
        item = paths.setdefault(spelling, {})
        item[route.rule.http_method.lower()] = {"operationId": names[id(route)], **operation.described()}
    return orjson.dumps(
        {
            "openapi": VERSION,
            "info": _info(listed),
            "tags": _tags(listed, comments),
            "paths": paths,
            "components": {
                "schemas": dict(sorted({**described.components(), **api_errors.schemas()}.items())),
                "responses": api_errors.responses(),
                "parameters": _PARAMETERS,
                **({"securitySchemes": schemes} if (schemes := security.schemes()) else {}),
            },
        }
    )


_PARAMETERS: Final = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes repeating safe: a repeat with the same key and the same content gets the first "
        "answer, whatever came between. Fills `request_id`; made afresh for each request without one.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        "example": "0f8fad5b-d9cb-469f-a165-70867728950e",
    },
    "LastEventId": {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The id of the last event seen: the stream resumes behind it. Browsers send it.",
        "schema": {"type": "string"},
    },
}


def _info(routes: Sequence[Route]) -> dict[str, str]:
    packages = sorted({route.method.descriptor.containing_service.file.package for route in routes})
    common = _common(packages)
    versions = {package.rpartition(".")[2] for package in packages}
    last = versions.pop() if len(versions) == 1 else ""
    return {
        "title": common or "API",
        "version": last if _VERSION_PART.fullmatch(last) else "1",
        "description": "Derived from protobuf contracts. Fields that are unset are left out of replies.",
    }


def _common(packages: Sequence[str]) -> str:
    """What their names begin with, in whole parts."""
    found = []
    for parts in zip(*[package.split(".") for package in packages], strict=False):
        if len(set(parts)) > 1:
            break
        found.append(parts[0])
    return ".".join(found)


def _tags(routes: Sequence[Route], comments: Comments) -> list[dict[str, str]]:
    services = {route.method.descriptor.containing_service.full_name for route in routes}
    return [
        {"name": _tag(name)} | ({"description": text} if (text := comments.of(name).text) else {})
        for name in sorted(services)
    ]


def _tag(service: str) -> str:
    return service


def _spellings(routes: Sequence[Route]) -> dict[str, str]:
    """One for each place: to OpenAPI, two that differ in names alone are the same path given twice."""
    found: dict[str, str] = {}
    for path in (_Path(route.rule.template) for route in routes):
        known = found.setdefault(path.shape, path.text)
        found[path.shape] = min(known, path.text, key=lambda text: (len(text), text))
    return found


def _operation_ids(routes: Sequence[Route]) -> dict[int, str]:
    """By the route's identity: full names are unique, and each further binding is counted."""
    found: dict[int, str] = {}
    seen: dict[str, int] = {}
    for route in routes:
        name = route.method.descriptor.full_name
        seen[name] = seen.get(name, 0) + 1
        found[id(route)] = name if seen[name] == 1 else f"{name}_{seen[name]}"
    return found


class _Path:
    """A template as OpenAPI spells it: a variable stands for one segment."""

    def __init__(self, template: Template) -> None:
        self.names: list[str] = []
        self.fields: list[str] = []
        """Of each name: the request's field; empty for a wildcard that binds none."""

        self.whole: list[bool] = []
        """Of each name: whether it is all of its field."""

        self._many = [template.segments[at] == http_rule.MANY for at in sorted(template.wild)]
        parts = []
        for at, segment in enumerate(template.segments):
            parts.append("{%s}" % self._named(template, at) if at in template.wild else segment)  # noqa: UP031
        verb = f":{template.verb}" if template.verb else ""
        self.text = "/" + "/".join(parts) + verb
        self.shape = re.sub(r"\{[^}]*\}", "{}", self.text)

    def spelt(self, text: str) -> "_Path":
        """The same place with the names of another spelling."""
        self.text = text
        self.names = re.findall(r"\{([^}]*)\}", text)
        return self

    def _named(self, template: Template, at: int) -> str:
        variable = next((v for v in template.variables if v.start <= at < v.end), None)
        name = "segment" if variable is None else variable.field
        wild = [] if variable is None else [w for w in template.wild if variable.start <= w < variable.end]
        self.fields.append("" if variable is None else variable.field)
        self.whole.append(variable is not None and variable.end - variable.start == 1)
        if len(wild) > 1:
            name += f"_{sorted(wild).index(at) + 1}"
        if name in self.names:
            name += f"_{len(self.names) + 1}"
        self.names.append(name)
        return name

    def many(self, index: int) -> bool:
        return self._many[index]


class _Operation:
    def __init__(
        self, route: Route, path: _Path, described: Schemas, comments: Comments, security: Security
    ) -> None:
        self._route = route
        self._path = path
        self._schemas = described
        self._comments = comments
        self._security = security
        self._request: Descriptor = route.method.descriptor.input_type
        self._bound = {variable.field for variable in route.rule.template.variables}

    def described(self) -> dict[str, Any]:
        method = self._route.method
        comment = self._comments.of(method.descriptor.full_name)
        made: dict[str, Any] = {
            "tags": [_tag(method.service)],
            "summary": comment.summary or method.name,
            "description": "\n\n".join(filter(None, (comment.rest, self._security.words(method)))),
            "parameters": [*self._path_parameters(), *self._query_parameters(), *self._header_parameters()],
            "requestBody": self._body(),
            "responses": self._responses(),
            "security": self._security.of(method),
            "deprecated": bool(method.descriptor.GetOptions().deprecated),
        }
        return {name: value for name, value in made.items() if value}

    def _path_parameters(self) -> Iterator[Schema]:
        for at, name in enumerate(self._path.names):
            parameter: Schema = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            words = []
            if self._path.fields[at]:
                field = fields.resolve(self._request, self._path.fields[at]).leaf
                if self._path.whole[at]:
                    parameter["schema"] = self._as_text(field)
                words.append(self._comments.of(field.full_name).text)
            if self._path.many(at):
                words.append("May hold several segments, divided by `/`.")
            if text := "\n\n".join(filter(None, words)):
                parameter["description"] = text
            yield parameter

    def _query_parameters(self) -> Iterator[Schema]:
        body = self._route.rule.body
        if body == "*":
            return
        for path, name in _leaves(self._request):
            if path in self._bound or path.split(".")[0] == body or self._fills_by_header(path):
                continue
            field = fields.resolve(self._request, path).leaf
            parameter: Schema = {"name": name, "in": "query", "schema": self._as_text(field)}
            if "." not in path and schemas.is_required(field):
                parameter["required"] = True
            if text := self._comments.of(field.full_name).text:
                parameter["description"] = text
            yield parameter

    def _header_parameters(self) -> Iterator[Schema]:
        if self._route.request.takes_request_id:
            yield {"$ref": "#/components/parameters/IdempotencyKey"}
        if self._route.stream is not None and self._route.stream.rendering.resumes:
            yield {"$ref": "#/components/parameters/LastEventId"}

    def _fills_by_header(self, path: str) -> bool:
        return path == REQUEST_ID and self._route.request.takes_request_id

    def _as_text(self, field: FieldDescriptor) -> Schema:
        """In a path or a query a number is digits, whatever its size."""
        schema = self._schemas.value(field)
        for part in (schema, schema.get("items", {})):
            if part.get("type") == ["string", "integer"]:
                part["type"] = "integer"
        return schema

    def _body(self) -> Schema | None:
        rule = self._route.rule
        if not rule.body:
            return None
        if self._route.request.takes_json:
            content = {_JSON: {"schema": self._body_schema(rule.body)}}
        else:
            content = {"*/*": {"schema": {}}}
        return {"content": content} | ({"required": True} if self._route.request.needs_body else {})

    def _body_schema(self, body: str) -> Schema:
        partial = self._route.rule.http_method == "PATCH"
        if body == "*":
            return self._in_place(self._request, "", partial=partial)
        field = self._request.fields_by_name[body]
        kind = field.message_type
        if kind is None or field.is_repeated or kind.full_name.startswith("google.protobuf."):
            return self._schemas.field(field)
        return self._in_place(kind, f"{body}.", partial=partial)

    def _in_place(self, kind: Descriptor, prefix: str, *, partial: bool) -> Schema:
        """A message less what the path says already; unknown fields are refused."""
        without = {path.removeprefix(prefix) for path in self._bound if path.startswith(prefix)}
        schema = self._schemas.fields(kind, without=without, partial=partial)
        if not prefix and self._route.request.takes_request_id:
            schema["required"] = [name for name in schema.get("required", ()) if name != "requestId"]
            if not schema["required"]:
                del schema["required"]
        return schema | {"additionalProperties": False}

    def _responses(self) -> Schema:
        text = self._comments.of(self._route.method.descriptor.full_name).text
        errors = api_errors.references(
            text,
            has_input=bool(self._path.names or self._request.fields),
            is_guarded=bool(self._security.of(self._route.method)),
            is_limited=bool(self._route.rates),
        )
        return {**self._success(), **errors}

    def _success(self) -> Schema:
        route = self._route
        if route.reply.is_nothing:
            return {"204": {"description": "Done; there is nothing to say."}}
        schema = self._reply_schema()
        said = (
            ""
            if route.rule.response_body
            else self._comments.of(route.method.descriptor.output_type.full_name).summary
        )
        if route.reply.is_raw:
            return {"200": {"description": said or "The content itself.", "content": {"*/*": {"schema": {}}}}}
        if route.stream is not None:
            return _stream(said, schema, resumes=route.stream.rendering.resumes)
        response = {"description": said or "Done.", "content": {_JSON: {"schema": schema}}}
        if route.reply.creates:
            location = {"description": "Where the thing made is found.", "schema": {"type": "string"}}
            return {"201": {**response, "headers": {"Location": location}}}
        return {"200": response}

    def _reply_schema(self) -> Schema:
        reply = self._route.method.descriptor.output_type
        if self._route.rule.response_body:
            return self._schemas.field(reply.fields_by_name[self._route.rule.response_body])
        return self._schemas.message(reply)


def _stream(said: str, schema: Schema, *, resumes: bool) -> Schema:
    end = "come back with `Last-Event-ID` whenever it ends" if resumes else "`event: end` follows the last"
    description = (
        f"{said}\n\nA stream of these. Who accepts `{EVENTS.decode()}` gets each as the data of an event "
        f"({end}) and an error as `event: error`; everyone else each on a line of its own, and an error as "
        "the last line."
    ).strip()
    content = {kind.decode(): {"schema": schema} for kind in (EVENTS, LINES)}
    return {"200": {"description": description, "content": content}}


def _leaves(request: Descriptor, above: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[str, str]]:
    """Path and parameter name of every field that a query can set."""
    message = above[-1].message_type if above else request
    for field in [] if message is None else message.fields:
        chain = (*above, field)
        path = ".".join(found.name for found in chain)
        try:
            fields.resolve(request, path)
        except BadField:
            kind = field.message_type
            nests = (
                kind is not None
                and not field.is_repeated
                and not kind.full_name.startswith("google.protobuf.")
            )
            if nests and len(chain) < _QUERY_DEPTH_MAX and all(kind != found.message_type for found in above):
                yield from _leaves(request, chain)
        else:
            yield path, ".".join(found.json_name for found in chain)
