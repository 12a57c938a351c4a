"""Refuses requests that break the rules in their contract (buf.validate), naming every violation at once."""

from collections.abc import Callable
from typing import Any, Final

import protovalidate
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from services.chassis.context import RequestContext
from services.chassis.contract import ContractError, Method
from services.chassis.redaction import is_secret
from services.chassis.server import plain_rules
from services.chassis.server.gate import Context, Guard
from services.chassis.status import FieldViolation, InvalidRequest
from services.kernel.errors import Invalid


class MalformedRequest(Invalid):
    """The bytes received are not the message this method takes."""


class _Malformed:
    """Stands for a request that could not be parsed until the onion, which has words for it, sees it."""


MALFORMED: Final = _Malformed()


def parser(request_type: type[Message]) -> Callable[[bytes], Any]:
    """A deserializer that never raises: what it raised, grpc would send to the caller in Python's words."""
    parse = request_type.FromString

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return MALFORMED

    return parsed


class Parsing:
    """Refuses what could not be parsed, for which no other gate has eyes."""

    def guard(self, method: Method) -> Guard:
        del method

        def parsed(request: Any, _call: RequestContext, _context: Context) -> None:
            if request is MALFORMED:
                raise MalformedRequest

        return parsed


class Validation:
    def __init__(self) -> None:
        self._collect = protovalidate.Validator().collect_violations

    def guard(self, method: Method) -> Guard:
        collect = self._collect
        try:
            collect(method.request_type())  # compiles the rules: 10 ms, better now than in the first call
        except (protovalidate.CompilationError, protovalidate.EvaluationError) as error:
            raise ContractError(f"rules of {method.descriptor.input_type.full_name}: {error}") from error

        looks_right = plain_rules.look(method.descriptor.input_type)

        def check(request: Any, _call: RequestContext, _context: Context) -> None:
            if looks_right(request):
                return
            if violations := collect(request):
                raise InvalidRequest(
                    [described(method.descriptor.input_type, violation) for violation in violations]
                )

        return check


def described(request_type: Descriptor, violation: protovalidate.Violation) -> FieldViolation:
    """A violation in words that never contain the value of a secret field."""
    path, secret = _path(request_type, violation)
    proto = violation.proto
    description = proto.message or f"breaks the rule {proto.rule_id}"
    if secret and str(violation.field_value) in description:  # rules in CEL word their own messages
        description = f"breaks the rule {proto.rule_id}"
    return FieldViolation(path, proto.rule_id, description)


def _path(message: Descriptor | None, violation: protovalidate.Violation) -> tuple[str, bool]:
    """The path as in `lines[2].quantity`, and whether a field on it is secret."""
    parts = []
    secret = False
    for element in violation.proto.field.elements if violation.proto.field else ():
        field = message.fields_by_name.get(element.field_name) if message else None
        secret = secret or (field is not None and is_secret(field))
        subscript = element.subscript
        parts.append(
            element.field_name if subscript is None else f"{element.field_name}[{_key(subscript.value)}]"
        )
        message = field.message_type if field else None
        if message is not None and subscript is not None and message.GetOptions().map_entry:
            message = message.fields_by_name["value"].message_type
    return ".".join(parts), secret


def _key(key: object) -> str:
    return f'"{key}"' if isinstance(key, str) else str(key).lower()
