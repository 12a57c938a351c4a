"""Calls through both doors of a shop, keeping what is said to those who are refused."""

import json
import re
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import httpx
from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from services.chassis import client
from services.chassis.contract import Method
from services.chassis.identity.workload import workload_serving
from services.cli.endpoints import Endpoints
from tests.access import contracts
from tests.secrets.seeds import Known, secrets_in

ANSWER_MAX_S = 30.0
_VARIABLE = re.compile(r"{([^}=]+)(?:=[^}]*)?}")

M = TypeVar("M", bound=Message)
Metadata = Sequence[tuple[str, str | bytes]]

METHODS = contracts.methods()
_BY_REQUEST = {method.request_type.DESCRIPTOR.full_name: method for method in METHODS}


@dataclass(frozen=True)
class Said:
    """What left the shop in answer to a call, but for a reply that is meant for its caller."""

    where: str
    content: bytes


@dataclass
class Doors:
    """`rest`: calls that have a route go through the edge; else, and all others, to the services."""

    shop: Endpoints
    known: Known
    rest: bool = False
    said: list[Said] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)
    """Redacted fields of requests that were answered with OK."""

    _open: AsyncExitStack = field(default_factory=AsyncExitStack)
    _channels: dict[tuple[str, str], grpc.aio.Channel] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        made = httpx.AsyncClient(base_url=self.shop.gateway, timeout=ANSWER_MAX_S)
        self.http = await self._open.enter_async_context(made)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def ask(self, request: Message, reply: type[M], *, token: str = "", workload: str = "") -> M | None:
        """The reply; None if it was refused."""
        method = _BY_REQUEST[request.DESCRIPTOR.full_name]
        rule = method.descriptor.GetOptions().Extensions[annotations_pb2.http]
        if self.rest and rule.WhichOneof("pattern") and not workload:
            answer = await self._rest(method, request, token)
        else:
            metadata = [("authorization", f"Bearer {token}")] if token else []
            answer = await self.call(method, request.SerializeToString(), metadata, workload=workload)
        if answer is not None:
            self.accepted |= {found.full_name for found, _ in secrets_in(request)}
            self.known.harvest(answer)
            assert isinstance(answer, reply)
        return answer

    async def call(
        self, method: Method, content: bytes, metadata: Metadata = (), *, workload: str = ""
    ) -> Message | None:
        """These bytes over gRPC; a stream's first reply."""
        channel = await self._channel(workload_serving(method.service), workload)
        make: Any = channel.unary_stream if method.is_stream else channel.unary_unary
        call = make(method.path, None, method.reply_type.FromString)(
            content, metadata=metadata, timeout=ANSWER_MAX_S
        )
        try:
            answer: Message | None
            if method.is_stream:
                answer = await call.read()
                call.cancel()
            else:
                answer = await call
        except grpc.aio.AioRpcError as error:
            told = [*(error.trailing_metadata() or ()), *(error.initial_metadata() or ())]
            parts = [(error.details() or "").encode(), *(part for item in told for part in map(_bytes, item))]
            self.said.append(Said(f"error of {method.path} {error.code().name}", b"\n".join(parts)))
            return None
        return answer if isinstance(answer, method.reply_type) else None

    async def send(self, verb: str, path: str, **more: Any) -> httpx.Response:
        """Over REST, as it is."""
        answer = await self.http.request(verb, path, **more)
        shown = "\n".join(f"{name}: {value}" for name, value in answer.headers.items()).encode()
        body = b"" if answer.is_success else answer.content
        self.said.append(Said(f"answer to {verb} {path}: {answer.status_code}", shown + b"\n" + body))
        return answer

    async def _rest(self, method: Method, request: Message, token: str) -> Message | None:
        verb, path, body, params = _as_http(method, request)
        headers = {"Idempotency-Key": str(getattr(request, "request_id", "")) or str(uuid.uuid4())}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        more = {} if body is None else {"json": body}
        answer = await self.send(verb, path, params=params, headers=headers, **more)
        if not answer.is_success:
            return None
        content = json.loads(answer.content) if answer.content else {}
        return json_format.ParseDict(content, method.reply_type(), ignore_unknown_fields=True)

    async def _channel(self, service: str, workload: str) -> grpc.aio.Channel:
        key = (service, workload)
        if key not in self._channels:
            who = service if service in self.shop.services else "order"  # what each of them serves
            at = self.shop.services[who]
            if workload:
                files = [file for file in contracts.files() if file.package == f"bodega.{service}.v1"]
                made = client.connect(at.mesh, *files, tls=self.shop.identity(workload), workload=who)
                await self._open.enter_async_context(made)
                self._channels[key] = made.raw
            else:
                self._channels[key] = await self._open.enter_async_context(grpc.aio.insecure_channel(at.grpc))
        return self._channels[key]


def route(method: Method) -> tuple[str, str, str] | None:
    """Verb, path with its variables, and which field is the body; None for those without a route."""
    rule = method.descriptor.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    return None if verb is None else (verb.upper(), getattr(rule, verb), rule.body)


def filled(path: str, value: Any) -> str:
    """A path with its variables replaced by what `value` says of each."""
    return _VARIABLE.sub(lambda variable: str(value(variable[1])), path)


def _as_http(method: Method, request: Message) -> tuple[str, str, Any, dict[str, Any]]:
    found = route(method)
    assert found is not None
    verb, path, body = found
    content = json_format.MessageToDict(request, preserving_proto_field_name=True)
    content.pop("request_id", None)

    def taken(variable: str) -> str:
        *outer, last = variable.split(".")
        holder = content
        for name in outer:
            holder = holder[name]
        return str(holder.pop(last))

    path = filled(path, taken)
    if body == "*":
        return verb, path, content, {}
    rest = content.pop(body, None) if body else None
    return verb, path, rest, content


def _bytes(part: str | bytes) -> bytes:
    return part if isinstance(part, bytes) else part.encode()
