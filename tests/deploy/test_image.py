"""deploy/Dockerfile and what it is built from; no Docker needed."""

import json
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import metadata
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from services.cli.certificates import WORKLOADS
from services.cli.data_folder import SERVICES
from tests.deploy.compose import DEPLOY, ROOT, mounts, ours, services


class Instruction(NamedTuple):
    name: str
    rest: str


def instructions() -> list[Instruction]:
    """The Dockerfile's, continued lines joined and comments left out."""
    lines = [
        line
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    return [Instruction(*line.split(None, 1)) for line in joined]


def stages() -> list[list[Instruction]]:
    found: list[list[Instruction]] = []
    for instruction in instructions():
        if instruction.name == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def of(name: str, where: list[Instruction]) -> list[str]:
    return [one.rest for one in where if one.name == name]


def test_nothing_is_read_by_a_shell() -> None:
    for name, rest in instructions():
        if name in ("RUN", "CMD", "ENTRYPOINT"):
            words = json.loads(rest)  # exec form is a JSON array
            assert all(isinstance(word, str) for word in words)
            assert words[0] not in ("sh", "bash", "/bin/sh", "env"), rest
    assert not of("SHELL", instructions())
    assert not of("ADD", instructions()), "COPY does what it says"


def test_both_stages_stand_on_the_python_that_the_tests_run_on() -> None:
    [image] = {base.split()[0] for base in of("FROM", instructions())}
    assert re.fullmatch(r"python:\d+\.\d+-slim-[a-z]+", image)
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert image.startswith(f"python:{oldest.removeprefix('>=')}-")


def test_the_image_runs_as_nobody_in_particular() -> None:
    final = stages()[-1]
    assert of("USER", final) == ["999:999"]
    assert final.index(Instruction("USER", "999:999")) > max(
        place for place, one in enumerate(final) if one.name in ("RUN", "COPY")
    ), "everything is made by root, who can be nobody's prey at run time"
    assert of("ENTRYPOINT", final) == ['["bodega"]']


def test_the_image_has_no_tools_of_the_builder() -> None:
    final = stages()[-1]
    assert of("COPY", final) == ["--from=build /opt/bodega /opt/bodega"]
    assert not any("pip" in rest or "apt" in rest for rest in of("RUN", final))


def test_every_volume_finds_a_folder_that_its_user_owns() -> None:
    """Docker gives a new volume the owner and mode of the folder below; without one it is root's."""
    [made] = [json.loads(rest) for rest in of("RUN", stages()[-1]) if '"install"' in rest]
    assert made[:8] == ["install", "-d", "-o", "999", "-g", "999", "-m", "0700"]
    folders = set(made[8:])
    written = {
        place
        for name in ours()
        for source, place, _ in mounts(name)
        if not source.startswith(".") and name != "operator"
    }
    assert written <= folders
    assert {f"/var/lib/bodega/certificates/{name}" for name in ("authority", *WORKLOADS)} <= folders
    assert {f"/var/lib/bodega/databases/{name}" for name in SERVICES} <= folders


def test_what_is_copied_into_the_build_is_let_through_and_there() -> None:
    ignored = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert ignored[0] == "*", "whatever is not named stays out"
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {source for rest in of("COPY", stages()[0]) for source in rest.split()[:-1]}
    assert copied == allowed
    for source in copied:
        assert (ROOT / source).exists()
    for secret in ("deploy/secrets", "deploy/.env", ".bodega", ".git"):
        assert not any(fnmatch(secret, pattern) for pattern in allowed)


def test_the_contracts_are_where_the_edge_looks_for_them() -> None:
    [described] = [json.loads(rest) for rest in of("RUN", stages()[0]) if '"describe"' in rest]
    assert f"--descriptor-set={described[-1]}" in services()["gateway"]["command"]


def pins() -> dict[str, str]:
    lines = (DEPLOY / "requirements.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def needed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> Iterator[Requirement]:
    """Everything that a package needs here, with what that needs."""
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement
            yield from needed(requirement.name, frozenset(requirement.extras), seen)


def test_every_package_of_the_image_is_pinned_within_its_bounds() -> None:
    pinned = pins()
    for requirement in needed("bodega", frozenset(), set()):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not pinned: make pins"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, not {version}"
