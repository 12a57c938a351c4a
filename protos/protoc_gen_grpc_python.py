"""A protoc plugin around grpcio-tools' built-in Python generator, so that `buf generate` can call it."""

import pathlib
import sys
import tempfile

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from grpc_tools import protoc


def generate(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=3,  # proto3 optional and editions
        minimum_edition=descriptor_pb2.EDITION_PROTO2,
        maximum_edition=descriptor_pb2.EDITION_2023,
    )
    with tempfile.TemporaryDirectory() as folder:
        descriptors = pathlib.Path(folder, "set.binpb")
        out = pathlib.Path(folder, "out")
        out.mkdir()
        descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=request.proto_file).SerializeToString())
        options = [f"--grpc_python_opt={request.parameter}"] if request.parameter else []
        code = protoc.main(
            [
                "protoc",
                f"--descriptor_set_in={descriptors}",
                f"--grpc_python_out={out}",
                *options,
                *request.file_to_generate,
            ]
        )
        if code:
            response.error = f"grpc_python generator failed ({code})"
        for file in sorted(out.rglob("*.py")):
            response.file.add(name=file.relative_to(out).as_posix(), content=file.read_text())
    return response


if __name__ == "__main__":
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(generate(request).SerializeToString())
