import pytest
from bodega.user.v1 import user_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.field_mask_pb2 import FieldMask

from services.chassis.masks import InvalidMask, updated

# descriptor.proto has every shape a field can have.
MUTABLE = ("name", "dependency", "options.java_package", "options.deprecated", "source_code_info")


def current() -> FileDescriptorProto:
    made = FileDescriptorProto(name="old", package="kept", dependency=["a", "b"])
    made.options.java_package = "old.java"
    made.options.go_package = "kept"
    return made


def wanted() -> FileDescriptorProto:
    made = FileDescriptorProto(name="new", package="ignored", dependency=["c"])
    made.options.java_package = "new.java"
    made.options.go_package = "ignored"
    made.source_code_info.location.add(leading_comments="hello")
    return made


def masked(*paths: str) -> FileDescriptorProto:
    return updated(current(), wanted(), FieldMask(paths=paths), MUTABLE)


def test_only_what_is_masked_changes() -> None:
    result = masked("name", "options.java_package")
    assert (result.name, list(result.dependency)) == ("new", ["a", "b"])
    assert (result.options.java_package, result.options.go_package) == ("new.java", "kept")


@pytest.mark.parametrize("paths", [(), ("*",)])
def test_no_mask_replaces_every_mutable_field_and_no_other(paths: tuple[str, ...]) -> None:
    result = masked(*paths)
    assert (result.name, list(result.dependency), result.package) == ("new", ["c"], "kept")
    assert (result.options.java_package, result.options.go_package) == ("new.java", "kept")
    assert result.source_code_info.location[0].leading_comments == "hello"


def test_a_parent_means_the_mutable_fields_inside_it() -> None:
    assert masked("options") == masked("options.java_package", "options.deprecated")


def test_what_is_inside_a_mutable_message_may_be_named() -> None:
    assert len(masked("source_code_info.location").source_code_info.location) == 1


def test_what_is_unset_becomes_unset() -> None:
    result = updated(current(), FileDescriptorProto(), FieldMask(paths=["name", "dependency"]), MUTABLE)
    assert not result.HasField("name")
    assert not result.dependency
    assert result.options == current().options


def test_the_arguments_stay_as_they_are() -> None:
    before, after = current(), wanted()
    updated(before, after, FieldMask(), MUTABLE)
    assert (before, after) == (current(), wanted())


def test_every_unknown_or_immutable_path_is_named() -> None:
    with pytest.raises(InvalidMask) as refused:
        masked("name", "package", "nmae", "options.nothing", "name.inside", "dependency.inside", "")
    named = refused.value.metadata["paths"].split(", ")
    assert named == ["package", "nmae", "options.nothing", "name.inside", "dependency.inside", ""]
    assert refused.value.field == "update_mask"
    assert refused.value.reason == "INVALID_MASK"


def test_messages_of_one_field_are_replaced_whole() -> None:
    left = DescriptorProto(name="x")
    left.options.deprecated = True
    result = updated(left, DescriptorProto(), FieldMask(paths=["options"]), ["options"])
    assert not result.HasField("options")


def test_it_fits_a_message_of_the_house() -> None:
    user = user_pb2.User(user_id="u-1", username="old")
    result = updated(user, user_pb2.User(user_id="u-2", username="new"), FieldMask(), ["username"])
    assert (result.user_id, result.username) == ("u-1", "new")
