"""One route's request → wire bytes and wire bytes → reply, compiled once from its rule and its method.

Body, path and query meet in one message, in this order; whoever contradicts another is refused.
"""

import re
import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError

from gateway import fields, masks, well_known
from gateway.decode import Decoder, parse
from gateway.encode import Encoder
from gateway.http_rule import Rule
from gateway.query import QueryBinding
from gateway.refusals import Mismatch, Refused, Violation, Violations, placed
from gateway.well_known import NoJsonForm
from services.chassis import redaction
from services.chassis.contract import Method

REQUEST_ID: Final = "request_id"
JSON: Final = b"application/json"
_OCTETS: Final = b"application/octet-stream"
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")  # RFC 3986, 2.3: what needs no escape

ReadBody = Callable[[Any, bytes, bytes | None], Any]
"""(message, body, content type): fills the message, gives the JSON document if it was one."""


class RequestBinding:
    """Makes the request message of one route."""

    def __init__(self, method: Method, rule: Rule, decoder: Decoder) -> None:
        """Raises BadField if the rule does not fit the request message."""
        request = method.descriptor.input_type
        variables = rule.template.variables
        self._new = method.request_type
        self._variables = tuple(fields.variable(request, variable.field) for variable in variables)
        bound = [variable.field for variable in variables]
        self._query = QueryBinding(request, bound=bound, body=rule.body)
        self._read_body, self.takes_json = self._body(method, rule, decoder)
        self.takes_body = self._read_body is not None
        # An action without details needs no body; a thing to be stored cannot be missing.
        self.needs_body = rule.body not in ("", "*") or rule.http_method in ("PUT", "PATCH")
        self._body_field = "" if rule.body == "*" else rule.body
        self._beside_body = tuple(_is_within(field.path, rule.body) for field in self._variables)
        self.takes_request_id = (
            method.takes_request_id
            and rule.http_method not in ("GET", "HEAD")
            and REQUEST_ID not in bound
            and _is_text(request.fields_by_name[REQUEST_ID])
        )
        self._fills_request_id = self.takes_request_id and method.policy is not None
        self._mask, self._mask_paths = _mask(method, rule)
        self._resume = _resume(method)

    def read(
        self,
        values: tuple[str, ...],
        query: bytes,
        body: bytes,
        content_type: bytes | None,
        idempotency_key: str | None,
        *,
        last_event_id: bytes = b"",
    ) -> Any:
        """The request's message. Raises Refused with every violation of whichever part was wrong first."""
        message = self._new()
        document = None
        if self._read_body is not None:
            if body:
                document = self._read_body(message, body, content_type)
            elif self.needs_body:
                raise Violations([Violation(self._body_field, "is missing: the request has no body")])
        self._bind_path(message, values)
        if query:
            self._query.bind(message, query)
        if self._mask and document is not None and not getattr(message, self._mask).paths:
            getattr(message, self._mask).paths[:] = self._mask_paths(document)
        if self.takes_request_id:
            self._bind_request_id(message, idempotency_key)
        if last_event_id and self._resume is not None:
            self._bind_last_event_id(self._resume, message, last_event_id)
        return message

    def encode(self, message: Any) -> bytes:
        """The same on the wire. Raises Refused if it is not complete."""
        try:
            return bytes(message.SerializeToString())
        except EncodeError:  # proto2: a required field is missing
            raise Mismatch("lacks a required field") from None

    def _bind_path(self, message: Any, values: tuple[str, ...]) -> None:
        wrong: list[Violation] = []
        for field, value, beside_body in zip(self._variables, values, self._beside_body, strict=True):
            try:
                if beside_body:
                    field.put_beside_body(message, value)
                else:
                    field.put(message, value)
            except Refused as refused:
                wrong += placed(field.path, refused)
        if wrong:
            raise Violations(wrong)

    def _bind_request_id(self, message: Any, key: str | None) -> None:
        given = message.request_id
        if key is None:
            if not given and self._fills_request_id:
                message.request_id = str(uuid.uuid4())
        elif given and given != key:
            raise Violations([Violation(REQUEST_ID, "differs from the Idempotency-Key header")])
        else:
            message.request_id = key

    def _bind_last_event_id(self, field: fields.TextField, message: Any, last: bytes) -> None:
        # It outdoes the query: a browser resumes with the address it began with, and this is newer.
        try:
            field.put(message, last.decode())
        except UnicodeDecodeError:
            raise Violations([Violation("Last-Event-ID", "must be UTF-8")]) from None
        except Refused as refused:
            raise Violations(placed("Last-Event-ID", refused)) from None

    def _body(self, method: Method, rule: Rule, decoder: Decoder) -> tuple[ReadBody | None, bool]:
        request = method.descriptor.input_type
        if not rule.body:
            return None, False
        if rule.body == "*":
            if request.full_name == well_known.HTTP_BODY:
                return _raw_body(lambda message: message), False
            return _json_body("", decoder.message(request)), True
        field = fields.top_level(request, rule.body, "body")
        if field.message_type is not None and field.message_type.full_name == well_known.HTTP_BODY:
            return _raw_body(lambda message: getattr(message, field.name)), False
        return _json_body(field.name, decoder.field(field)), True


def _json_body(name: str, fill: Callable[[Any, Any], None]) -> ReadBody:
    def read(message: Any, body: bytes, _content_type: bytes | None) -> Any:
        try:
            document = parse(body)
        except Mismatch as refused:
            raise Violations(placed("body", refused)) from None
        try:
            fill(message, document)
        except Refused as refused:
            raise Violations(placed(name, refused)) from None
        return document

    return read


def _raw_body(where: Callable[[Any], Any]) -> ReadBody:
    def read(message: Any, body: bytes, content_type: bytes | None) -> None:
        http_body = where(message)
        http_body.content_type = (content_type or _OCTETS).decode("latin-1")
        http_body.data = body

    return read


def _is_within(path: str, body: str) -> bool:
    return body == "*" or path.split(".", maxsplit=1)[0] == body


def _is_text(field: FieldDescriptor) -> bool:
    return field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated


def _resume(method: Method) -> fields.TextField | None:
    path = "" if method.policy is None else method.policy.resume_field
    return fields.variable(method.descriptor.input_type, path) if path else None


def _mask(method: Method, rule: Rule) -> tuple[str | None, masks.Paths]:
    request = method.descriptor.input_type
    body = request.fields_by_name.get(rule.body)
    nothing: tuple[None, masks.Paths] = (None, lambda _: [])
    if rule.http_method != "PATCH" or body is None or body.message_type is None or body.is_repeated:
        return nothing
    name = masks.mask_field(request)
    if name is None:
        return nothing
    in_path = [variable.field.removeprefix(f"{rule.body}.") for variable in rule.template.variables]
    return name, masks.paths_of(body.message_type, except_for=in_path)


class Rendered(NamedTuple):
    """An HTTP reply less what every reply carries."""

    status: int
    body: bytes
    content_type: bytes | None
    location: bytes | None = None


NO_CONTENT: Final = Rendered(204, b"", None)


class ReplyRendering:
    """Makes the HTTP reply of one route."""

    def __init__(self, method: Method, rule: Rule, encoder: Encoder) -> None:
        """Raises BadField if the rule or the policy's `created` does not fit the reply message."""
        reply = method.descriptor.output_type
        self._type = method.reply_type
        self._field: FieldDescriptor | None = None
        self.is_raw = reply.full_name == well_known.HTTP_BODY
        self.is_nothing = method.policy is not None and reply.full_name == well_known.EMPTY
        self._dump = None if self.is_raw else encoder.message(reply)
        self._location = _location(method) if method.policy is not None and method.policy.created else None
        self.creates = self._location is not None
        self.carries_secrets = redaction.carries_secrets(reply)
        if rule.response_body:
            self._field = fields.top_level(reply, rule.response_body, "response_body")
            self._dump = encoder.field(self._field)
            kind = self._field.message_type
            self.is_raw = kind is not None and kind.full_name == well_known.HTTP_BODY

    def render(self, wire: bytes) -> Rendered:
        """Raises NoJsonForm if the reply cannot be said in JSON."""
        if self.is_nothing:
            return NO_CONTENT
        message = self.read(wire)
        if self.is_raw:
            return Rendered(200, *self.raw(message))
        body = self.json(message)
        if self._location is not None and (location := self._location(message)):
            return Rendered(201, body, JSON, location)
        return Rendered(200, body, JSON)

    def read(self, wire: bytes) -> Any:
        """The reply's message. Raises NoJsonForm."""
        try:
            return self._type.FromString(wire)
        except DecodeError:
            raise NoJsonForm("the reply is not of its type") from None

    def json(self, message: Any) -> bytes:
        """The part of a message that is the body. Raises NoJsonForm."""
        value = self._value(message)
        return orjson.dumps(value if self._dump is None else self._dump(value))

    def raw(self, message: Any) -> tuple[bytes, bytes]:
        """Bytes and content type, where the body is a google.api.HttpBody."""
        value = self._value(message)
        return value.data, value.content_type.encode("latin-1", "ignore") or _OCTETS

    def _value(self, message: Any) -> Any:
        return message if self._field is None else getattr(message, self._field.name)


def _location(method: Method) -> Callable[[Any], bytes]:
    template = method.policy.created if method.policy is not None else ""
    parts = _VARIABLE.split(template)
    literals = parts[::2]
    read = [fields.resolve(method.descriptor.output_type, path) for path in parts[1::2]]

    def location(message: Any) -> bytes:
        values = [str(getattr(field.parent(message), field.leaf.name)) for field in read]
        if not all(values):
            return b""
        filled = [value if _PLAIN.fullmatch(value) else quote(value, safe="") for value in values] + [""]
        return "".join([a + b for a, b in zip(literals, filled, strict=True)]).encode()

    return location
