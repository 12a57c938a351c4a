"""The contracts as the gateway gets them."""

from importlib import resources
from pathlib import Path

import orjson
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway import app
from services.cli import contracts

ORDER = "bodega/order/v1/order.proto"


def kept() -> FileDescriptorSet:
    return FileDescriptorSet.FromString(resources.files("bodega").joinpath("api.binpb").read_bytes())


def commented(files: FileDescriptorSet) -> set[str]:
    return {file.name for file in files.file if file.source_code_info.location}


def given() -> FileDescriptorSet:
    return FileDescriptorSet.FromString(contracts.descriptor_set())


def test_our_files_carry_their_comments() -> None:
    ours = {file.name for files in contracts.FILES.values() for file in files}
    assert ours <= commented(given())


def test_a_file_that_has_changed_since_stays_without_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = kept()
    next(file for file in older.file if file.name == ORDER).service[0].method.pop()
    (tmp_path / "api.binpb").write_bytes(older.SerializeToString())
    before = commented(given())
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    assert before - commented(given()) == {ORDER}
    (tmp_path / "api.binpb").unlink()
    assert commented(given()) == set()


def test_they_make_a_valid_document_in_which_everything_is_explained() -> None:
    document = orjson.loads(app.build(given(), ["127.0.0.1:1"]).openapi)
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"].endswith("."), (method, path)
