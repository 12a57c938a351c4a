"""The errors of an API as OpenAPI components."""

import re
from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from google.rpc import error_details_pb2

from gateway.comments import Comments
from gateway.constraints import Schema
from gateway.errors import HTTP_STATUS
from gateway.schemas import Schemas

_BAD_REQUEST: Final = "400"
_DETAILS: Final = ("ErrorInfo", "BadRequest", "PreconditionFailure", "RetryInfo")
_CONTENT: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_STATUSES: Final = {code.name: str(status) for code, status in HTTP_STATUS.items() if status != 200}  # noqa: PLR2004
_NAMED = re.compile(r"\b(" + "|".join(sorted(_STATUSES, key=len, reverse=True)) + r")\b")
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait before asking again.", "schema": {"type": "integer"}}
}
_SHARED: Final[dict[str, Schema]] = {
    "BadRequest": {
        "description": "The request does not fit its contract; `BadRequest` names every field that does not."
    },
    "Unauthenticated": {
        "description": "Nobody asks, or not convincingly: sign in.",
        "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}},
    },
    "PermissionDenied": {"description": "Not for whoever asks."},
    "TooManyRequests": {
        "description": "More often than is allowed.",
        "headers": {
            **_RETRY_AFTER,
            "RateLimit-Policy": {"description": "The limit that was hit.", "schema": {"type": "string"}},
            "RateLimit": {
                "description": "What is left of it, and for how long.",
                "schema": {"type": "string"},
            },
        },
    },
    "Unavailable": {"description": "Not now; nothing happened.", "headers": _RETRY_AFTER},
    "DeadlineExceeded": {"description": "No answer in time. It may have happened: repeat with the same key."},
    "Error": {"description": "Anything else that went wrong."},
}


def schemas() -> dict[str, Schema]:
    """What every error consists of."""
    details = Schemas(Comments(()), _kinds())
    known = [_detail(details, kind) for kind in _kinds()]
    error: Schema = {
        "type": "object",
        "required": ["code", "status", "message"],
        "properties": {
            "code": {"type": "integer", "description": "The HTTP status."},
            "status": {"type": "string", "enum": list(_STATUSES), "description": "The gRPC code."},
            "message": {"type": "string", "description": "For people; its words may change."},
            "details": {
                "type": "array",
                "description": "For programs: `reason` of `google.rpc.ErrorInfo` says what happened.",
                "items": {
                    "type": "object",
                    "required": ["@type"],
                    "properties": {"@type": {"type": "string"}},
                    "anyOf": [*known, {}],  # services may add details of their own
                },
            },
        },
    }
    return {
        "Error": {"type": "object", "required": ["error"], "properties": {"error": error}},
        **details.components(),
    }


def responses() -> dict[str, Schema]:
    """The responses that operations share."""
    return {name: {**found, "content": _CONTENT} for name, found in sorted(_SHARED.items())}


def references(comment: str, *, has_input: bool, is_guarded: bool, is_limited: bool) -> dict[str, Schema]:
    """The failures of an operation by status: those that its comment names, in its words, and shared ones."""
    found: dict[str, Schema] = {_BAD_REQUEST: _ref("BadRequest")} if has_input else {}
    if is_guarded:
        found |= {"401": _ref("Unauthenticated"), "403": _ref("PermissionDenied")}
    if is_limited:
        found |= {"429": _ref("TooManyRequests")}
    for status, words in _named(comment).items():
        shared = _SHARED[_name(found[status])] if status in found else {}
        said = f"{shared['description']} Or: {words}" if shared else words
        found[status] = {**shared, "description": said, "content": _CONTENT}
    found |= {"503": _ref("Unavailable"), "504": _ref("DeadlineExceeded")}
    return {**dict(sorted(found.items())), "default": _ref("Error")}


def _named(comment: str) -> dict[str, str]:
    """What a comment says about each status: sentences, or the parts of one between semicolons."""
    found: dict[str, list[str]] = {}
    for sentence in re.split(r"(?<=\.)\s+", " ".join(comment.split())):
        statuses: list[str] = []
        for part in sentence.split("; "):
            # A part that names no code goes on about the one before: "NOT_FOUND, reason A; reason B".
            statuses = [_STATUSES[name] for name in _NAMED.findall(part)] or statuses
            for status in dict.fromkeys(statuses):
                found.setdefault(status, []).append(part.rstrip(".;"))
    return {status: "; ".join(parts) + "." for status, parts in found.items()}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/responses/{name}"}


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _kinds() -> list[Descriptor]:
    return [error_details_pb2.DESCRIPTOR.message_types_by_name[name] for name in _DETAILS]


def _detail(details: Schemas, kind: Descriptor) -> dict[str, Any]:
    at_type = {"const": f"type.googleapis.com/{kind.full_name}"}
    return {"allOf": [details.message(kind), {"properties": {"@type": at_type}}]}
