"""A contract of the tests' own: one method of every kind, and rules to break."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from bodega.policy.v1 import policy_pb2  # noqa: F401 (the options below are its extensions)
from buf.validate import validate_pb2  # noqa: F401
from google.protobuf import descriptor_pool, message_factory, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from services.chassis import contract

SERVICE = "bodega.playground.v1.Playground"

_FILE = """
name: "bodega/playground/v1/playground.proto"
package: "bodega.playground.v1"
syntax: "proto3"
dependency: "bodega/policy/v1/policy.proto"
dependency: "buf/validate/validate.proto"
message_type {
  name: "Line"
  field { name: "quantity" json_name: "quantity" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL
          options { [buf.validate.field] { int32 { gt: 0 } } } }
}
message_type {
  name: "Ping"
  field { name: "name" json_name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL
          options { [buf.validate.field] { string { max_len: 20 } } } }
  field { name: "count" json_name: "count" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL
          options { [buf.validate.field] { int32 { gte: 0 } } } }
  field { name: "secret" json_name: "secret" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL
          options { debug_redact: true [buf.validate.field] {
            cel { id: "secret.short" expression: "size(this) < 9 ? '' : 'too long: ' + this" } } } }
  field { name: "request_id" json_name: "requestId" number: 4 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "lines" json_name: "lines" number: 5 type: TYPE_MESSAGE label: LABEL_REPEATED
          type_name: ".bodega.playground.v1.Line" }
}
message_type {
  name: "Pong"
  field { name: "name" json_name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
}
service {
  name: "Playground"
  method { name: "Read" input_type: ".bodega.playground.v1.Ping" output_type: ".bodega.playground.v1.Pong"
           options { idempotency_level: NO_SIDE_EFFECTS
                     [bodega.policy.v1.method] { deadline { seconds: 20 } priority: PRIORITY_SHEDDABLE } } }
  method { name: "Write" input_type: ".bodega.playground.v1.Ping" output_type: ".bodega.playground.v1.Pong"
           options { idempotency_level: IDEMPOTENT
                     [bodega.policy.v1.method] { deadline { seconds: 20 } priority: PRIORITY_CRITICAL } } }
  method { name: "Fire" input_type: ".bodega.playground.v1.Ping" output_type: ".bodega.playground.v1.Pong"
           options { [bodega.policy.v1.method] { deadline { seconds: 20 } } } }
  method { name: "Quick" input_type: ".bodega.playground.v1.Ping" output_type: ".bodega.playground.v1.Pong"
           options { idempotency_level: NO_SIDE_EFFECTS
                     [bodega.policy.v1.method] { deadline { nanos: 100000000 } } } }
  method { name: "Recall" input_type: ".bodega.playground.v1.Ping" output_type: ".bodega.playground.v1.Pong"
           options { idempotency_level: NO_SIDE_EFFECTS
                     [bodega.policy.v1.method] { access { signed_in: true } deadline { seconds: 20 }
                                                 cache { seconds: 5 } } } }
  method { name: "Recite" input_type: ".bodega.playground.v1.Ping" output_type: ".bodega.playground.v1.Pong"
           options { idempotency_level: NO_SIDE_EFFECTS
                     [bodega.policy.v1.method] { access { public: true } deadline { seconds: 20 }
                                                 cache { seconds: 5 } } } }
  method { name: "Settle" input_type: ".bodega.playground.v1.Ping" output_type: ".bodega.playground.v1.Pong"
           options { idempotency_level: IDEMPOTENT
                     [bodega.policy.v1.method] { deadline { seconds: 20 } priority: PRIORITY_CRITICAL } } }
  method { name: "Watch" input_type: ".bodega.playground.v1.Ping" output_type: ".bodega.playground.v1.Pong"
           server_streaming: true options { idempotency_level: NO_SIDE_EFFECTS } }
  method { name: "Follow" input_type: ".bodega.playground.v1.Ping" output_type: ".bodega.playground.v1.Pong"
           server_streaming: true
           options { idempotency_level: NO_SIDE_EFFECTS
                     [bodega.policy.v1.method] { deadline { seconds: 20 } stream_cursor: "name"
                                                 resume_field: "name" } } }
  method { name: "Glance" input_type: ".bodega.playground.v1.Ping" output_type: ".bodega.playground.v1.Pong"
           server_streaming: true
           options { idempotency_level: NO_SIDE_EFFECTS
                     [bodega.policy.v1.method] { deadline { nanos: 100000000 } } } }
  method { name: "Stare" input_type: ".bodega.playground.v1.Ping" output_type: ".bodega.playground.v1.Pong"
           server_streaming: true
           options { idempotency_level: NO_SIDE_EFFECTS
                     [bodega.policy.v1.method] { deadline { seconds: 3600 } } } }
}
"""

FILE = descriptor_pool.Default().AddSerializedFile(
    text_format.Parse(_FILE, FileDescriptorProto()).SerializeToString()
)
Ping: Any = message_factory.GetMessageClass(FILE.message_types_by_name["Ping"])
Pong: Any = message_factory.GetMessageClass(FILE.message_types_by_name["Pong"])
METHODS = {method.name: method for method in contract.methods(FILE)}

Handlers = Mapping[str, Callable[..., Any]]


def add_to_server(handlers: Handlers, server: Any) -> None:
    """Does for a dictionary of handlers what generated code does for a servicer."""
    made = {}
    for name, handler in handlers.items():
        streams = METHODS[name].descriptor.server_streaming
        make = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        made[name] = make(
            handler, request_deserializer=Ping.FromString, response_serializer=Pong.SerializeToString
        )
    server.add_registered_method_handlers(SERVICE, made)


class Stub:
    """The methods named, as generated code would offer them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        streams = METHODS[name].descriptor.server_streaming
        make = self._channel.unary_stream if streams else self._channel.unary_unary
        return make(
            f"/{SERVICE}/{name}",
            request_serializer=Ping.SerializeToString,
            response_deserializer=Pong.FromString,
        )
