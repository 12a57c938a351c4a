"""The table of cases and the types they speak of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.message import Message
from grpc_tools import protoc

from gateway import descriptors

HERE: Final = Path(__file__).parent
SERVICE: Final = "conformance.v1.Conformance"
_GOOGLEAPIS: Final = HERE.parents[2] / "protos" / "third_party" / "googleapis"
_WELL_KNOWN: Final = Path(protoc.__file__).parent / "_proto"

Case = Mapping[str, Any]

TABLE: Final[Mapping[str, Any]] = json.loads((HERE / "transcoding-cases.json").read_bytes())
CASES: Final[list[Case]] = TABLE["cases"]


def cases(*kinds: str) -> list[Any]:
    """Cases of these kinds as pytest parameters, each under its own name."""
    return [pytest.param(case, id=case["id"]) for case in CASES if case["kind"] in kinds]


class Contract:
    """conformance.proto, compiled."""

    def __init__(self, folder: Path) -> None:
        path = folder / "conformance.binpb"
        includes = [f"-I{place}" for place in (HERE, _GOOGLEAPIS, _WELL_KNOWN)]
        made = protoc.main(
            ["", *includes, "--include_imports", f"--descriptor_set_out={path}", "conformance.proto"]
        )
        assert made == 0
        self.files: descriptor_pb2.FileDescriptorSet = descriptors.read(path)
        self.pool = descriptors.load(self.files)[0]
        self._methods = self.pool.FindServiceByName(SERVICE).methods_by_name

    def new(self, name: str) -> Any:
        """An empty message, by its name in the contract or its full name."""
        full = name if "." in name else f"conformance.v1.{name}"
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(full))()

    def request(self, rpc: str) -> Any:
        return self.new(self._methods[rpc].input_type.full_name)

    def reply(self, rpc: str) -> Any:
        return self.new(self._methods[rpc].output_type.full_name)

    def filled(self, message: Message, value: Any) -> Message:
        """A message from its canonical JSON, by the library that is not under test."""
        return json_format.ParseDict(value, message, descriptor_pool=self.pool, max_recursion_depth=10_000)
