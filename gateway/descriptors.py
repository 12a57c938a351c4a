"""A descriptor set of anyone's making, as a pool of its own."""

from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError


class BadDescriptorSet(Exception):
    """The file is no descriptor set, or not a whole one."""


def read(path: Path) -> descriptor_pb2.FileDescriptorSet:
    """What `buf build -o` and `protoc --include_imports --descriptor_set_out` write.

    Raises BadDescriptorSet.
    """
    try:
        found = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    except OSError as error:
        raise BadDescriptorSet(f"{path}: {error.strerror}") from None
    except DecodeError:
        raise BadDescriptorSet(f"{path} is not a compiled descriptor set") from None
    if not found.file:
        raise BadDescriptorSet(f"{path} describes nothing")
    return found


def load(files: descriptor_pb2.FileDescriptorSet) -> tuple[DescriptorPool, list[FileDescriptor]]:
    """A pool with these files in it, and the files. Raises BadDescriptorSet."""
    pool = DescriptorPool()
    by_name = {file.name: file for file in files.file}
    done: set[str] = set()

    def add(file: descriptor_pb2.FileDescriptorProto) -> None:
        done.add(file.name)
        for needed in file.dependency:
            if needed not in by_name:
                raise BadDescriptorSet(
                    f"{file.name} imports {needed}, which the set lacks (compile it with its imports)"
                )
            if needed not in done:
                add(by_name[needed])
        try:
            pool.Add(file)
        except TypeError:
            raise BadDescriptorSet(
                f"{file.name} is not valid: it contradicts itself or its imports"
            ) from None

    for file in files.file:
        if file.name not in done:
            add(file)
    return pool, [pool.FindFileByName(name) for name in by_name]
