"""Secrets where they are not expected: in requests that are wrong, and in the wrong places of a request."""

import asyncio
import base64
import uuid
from collections.abc import Iterator
from typing import Any, Final

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.chassis.contract import Method
from services.chassis.redaction import is_secret
from tests.secrets.doors import METHODS, Doors, filled, route
from tests.secrets.seeds import FIELDS, TOKEN, Known

AT_ONCE: Final = 8
UNKNOWN_FIELD: Final = bytes((0xFA, 0x7F))  # 2047, of bytes
LONG: Final = 5000  # more than any field may have

Metadata = list[tuple[str, str | bytes]]


async def made(doors: Doors, token: str) -> int:
    """Every RPC, with secrets of ours wherever a careless program may put them; how many calls."""
    calls = [call for method in METHODS for call in (*_grpc(doors, method, token), *_rest(doors, method))]
    waiting = iter(calls)

    async def some() -> None:
        for call in waiting:
            await call

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(some())
    return len(calls)


def _grpc(doors: Doors, method: Method, token: str) -> Iterator[Any]:
    known = doors.known
    signed_in: Metadata = [("authorization", f"Bearer {token}")]
    for request in (_only_secrets(method, known), _plausible(method, known)):
        content = request.SerializeToString()
        yield doors.call(method, content)
        yield doors.call(method, content, signed_in)
        if method.policy is not None:
            for workload in list(method.policy.access.workloads)[:1]:
                yield doors.call(method, content, workload=workload)
    for wrong in (lambda secret: secret * LONG, lambda secret: f"{secret}\n\u00e9\u0000"):
        request = _only_secrets(method, known, wrong)
        yield doors.call(method, request.SerializeToString(), signed_in)
    secret = known.new(TOKEN).encode()
    yield doors.call(method, b"\x0a\x7f" + secret)  # shorter than it says
    yield doors.call(method, b"\x0a" + bytes((len(secret) + 1,)) + secret + b"\xff")  # no UTF-8
    yield doors.call(method, UNKNOWN_FIELD + bytes((len(secret),)) + secret, signed_in)
    for metadata in (_metadata(known), *_authorizations(known)):
        yield doors.call(method, _plausible(method, known).SerializeToString(), metadata)


def _rest(doors: Doors, method: Method) -> Iterator[Any]:
    found = route(method)
    if found is None:
        return
    known = doors.known
    verb, template, _ = found
    path = filled(template, lambda _variable: uuid.uuid4())
    headers = {"Idempotency-Key": str(uuid.uuid4())}

    def send(at: str = path, **more: Any) -> Any:
        return doors.send(verb, at, **{"headers": headers, **more})

    names = _names(method) or ["password", "email"]
    yield send(json={name: known.new(TOKEN) for name in names})
    yield send(json={name: {"value": known.new(TOKEN)} for name in names})
    yield send(json={name: [known.new(TOKEN)] for name in names})
    yield send(json=[known.new(TOKEN)])
    yield send(json=known.new(TOKEN))
    yield send(content=f'{{"{names[0]}": "{known.new(TOKEN)}')
    yield send(content=f'{{"{names[0]}": {known.new(TOKEN)}}}')
    yield send(content=known.new(TOKEN), headers={**headers, "Content-Type": "text/plain"})
    yield send(data={name: known.new(TOKEN) for name in names})
    yield send(params={name: known.new(TOKEN) for name in names})
    yield send(filled(template, lambda _variable: known.new(TOKEN)), json={})
    yield send(f"{path}/{known.new(TOKEN)}", json={})
    yield send(headers={**headers, **_headers(known)}, json={})
    basic = base64.b64encode(f"ada:{known.new(TOKEN)}".encode()).decode()
    for authorization in (f"Basic {basic}", f"Bearer {_made_up(known)}", known.new(TOKEN)):
        yield send(headers={**headers, "Authorization": authorization}, json={})


def _metadata(known: Known) -> Metadata:
    return [
        ("authorization", f"Bearer {known.new(TOKEN)}"),
        ("x-api-key", known.new(TOKEN)),
        ("x-bodega-on-behalf-of", known.new(TOKEN)),
        ("x-password", known.new(TOKEN)),
        ("x-secret-bin", known.new(TOKEN).encode()),
        ("cookie", known.new(TOKEN)),
    ]


def _authorizations(known: Known) -> Iterator[Metadata]:
    yield [("authorization", f"Basic {known.new(TOKEN)}")]
    yield [("authorization", f"Bearer {known.new(TOKEN)}"), ("authorization", f"Bearer {known.new(TOKEN)}")]
    yield [("authorization", f"Bearer {_made_up(known)}")]


def _made_up(known: Known) -> str:
    """What looks like a token of the shop, until one looks closer."""
    header = {"typ": "at+jwt", "alg": "EdDSA", "kid": known.new(TOKEN)}
    claims = {"iss": "bodega", "aud": known.new(TOKEN), "sub": known.new(TOKEN), "exp": known.new(TOKEN)}
    parts = (orjson.dumps(header), orjson.dumps(claims), known.new(TOKEN).encode())
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def _headers(known: Known) -> dict[str, str]:
    return {
        "X-Api-Key": known.new(TOKEN),
        "X-Password": known.new(TOKEN),
        "X-Bodega-On-Behalf-Of": known.new(TOKEN),
        "Grpc-Metadata-Authorization": known.new(TOKEN),
        "Cookie": f"session={known.new(TOKEN)}",
        "Referer": f"https://shop.example/?token={known.new(TOKEN)}",
        "User-Agent": known.new(TOKEN),
    }


def _only_secrets(method: Method, known: Known, wrong: Any = str) -> Message:
    request = method.request_type()
    _fill(request, lambda found: wrong(known.new(FIELDS[found.full_name])) if is_secret(found) else None)
    return request


def _plausible(method: Method, known: Known) -> Message:
    """Ids of nothing, and every other text in the form that most have: what gets past the first checks."""

    def value(found: FieldDescriptor) -> str | None:
        if is_secret(found):
            return known.new(FIELDS[found.full_name])
        if found.name.endswith("_id"):
            return str(uuid.uuid4())
        return f"x{uuid.uuid4().hex[:8]}" if found.name in ("username", "reason", "name") else None

    request = method.request_type()
    _fill(request, value)
    return request


def _fill(message: Message, value: Any, depth: int = 0) -> None:
    for found in message.DESCRIPTOR.fields:
        kind = found.message_type
        if kind is not None and kind.full_name.startswith("bodega.") and not found.is_repeated and depth < 3:
            _fill(getattr(message, found.name), value, depth + 1)
        elif found.type == FieldDescriptor.TYPE_STRING and not found.is_repeated:
            setattr(message, found.name, value(found) or "")


def _names(method: Method) -> list[str]:
    return [found.json_name for found in method.descriptor.input_type.fields if is_secret(found)]
