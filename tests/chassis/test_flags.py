"""Flags are heeded as the file is written; whatever else stands in it, what held before holds."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from services.chassis import app, flags, telemetry
from services.chassis.config import ServiceSettings
from services.chassis.flags import SHEDDING, Flag, Flags, file_of
from services.chassis.health import State
from services.chassis.server.access import Everyone
from services.chassis.testing import until

COLOUR: Final = Flag("shop.colour", {"red": "red", "blue": "blue"}, "red", "What the shop looks like.")
OPEN: Final = Flag("shop.open", {"yes": True, "no": False}, True, "Whether it is open.")
DECLARED: Final = (COLOUR, OPEN)


def definition(flag: Flag[Any], **other: object) -> dict[str, object]:
    return {**json.loads(file_of([flag]))["flags"][flag.name], **other}


def write(file: Path, *definitions: Mapping[str, object], text: str = "") -> None:
    """As an editor does: another file takes its place."""
    content = {"flags": dict(zip((flag.name for flag in DECLARED), definitions, strict=False))}
    draft = file.with_suffix(".draft")
    draft.write_text(text or json.dumps(content))
    draft.replace(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "flags.json"
    file.write_text(file_of(DECLARED))
    return file


def heeding(file: Path) -> Flags:
    return Flags(DECLARED, service="shop", file=file)


BLUE: Final = definition(COLOUR, defaultVariant="blue")


def test_without_a_file_the_defaults_hold() -> None:
    heeded = Flags(DECLARED)
    assert (heeded.value(COLOUR), heeded.value(OPEN)) == ("red", True)
    assert not heeded.has_file


def test_while_the_file_says_no_more_than_the_defaults_nothing_is_loaded_for_it(tmp_path: Path) -> None:
    asked = """
import sys
from pathlib import Path
from services.chassis.flags import SHEDDING, Flags, file_of
file = Path(sys.argv[1])
for text in ("", file_of([SHEDDING]), '{"flags": {}}', file_of([SHEDDING]).replace('": "on"', '": "off"')):
    if text:
        file.write_text(text)
    heeded = Flags([SHEDDING], service="shop", file=file if text else None)
    print(heeded.problem, heeded.value(SHEDDING), "openfeature.api" in sys.modules)
"""
    command = [sys.executable, "-c", asked, str(tmp_path / "flags.json")]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [" True False", " True False", " True False", " False True"]


def test_the_file_that_is_written_for_people_says_the_defaults(file: Path) -> None:
    heeded = heeding(file)
    assert (heeded.value(COLOUR), heeded.value(OPEN)) == ("red", True)
    assert COLOUR.sentence in file.read_text()


def test_what_the_file_leaves_out_is_the_default(file: Path) -> None:
    write(file, text='{"flags": {}}')
    assert heeding(file).value(COLOUR) == "red"


def test_a_flag_that_is_disabled_is_the_default(file: Path) -> None:
    write(file, {**BLUE, "state": "DISABLED"})
    assert heeding(file).value(COLOUR) == "red"


def test_a_file_is_heeded_as_it_is_written(file: Path) -> None:
    heeded = heeding(file)
    write(file, BLUE, definition(OPEN, defaultVariant="no"))
    heeded.look()
    assert (heeded.value(COLOUR), heeded.value(OPEN)) == ("blue", False)


def test_an_older_file_that_is_put_back_is_heeded_too(file: Path) -> None:
    backup = file.with_suffix(".bak")
    backup.write_text(file.read_text())
    os.utime(backup, (1, 1))
    write(file, BLUE)
    heeded = heeding(file)
    backup.replace(file)
    heeded.look()
    assert heeded.value(COLOUR) == "red"


def test_a_flag_may_differ_by_fraction_the_same_for_each_key(file: Path) -> None:
    write(file, definition(COLOUR, targeting={"fractional": [["red", 75], ["blue", 25]]}))
    heeded = heeding(file)
    seen = {f"user {number}": heeded.value(COLOUR, f"user {number}") for number in range(2000)}
    assert 400 < Counter(seen.values())["blue"] < 600
    assert all(heeded.value(COLOUR, key) == value for key, value in seen.items())


def test_a_flag_may_differ_by_attribute_and_by_service(file: Path) -> None:
    ours = {"and": [{"==": [{"var": "order_id"}, "o1"]}, {"==": [{"var": "service"}, "shop"]}]}
    write(file, definition(COLOUR, targeting={"if": [ours, "blue", "red"]}))
    assert heeding(file).value(COLOUR, "u1", order_id="o1") == "blue"
    assert heeding(file).value(COLOUR, "u1", order_id="o2") == "red"
    assert Flags(DECLARED, service="other", file=file).value(COLOUR, "u1", order_id="o1") == "red"


BROKEN: Final = {
    "half written": '{"flags": {"shop.col',
    "empty": "",
    "a list": "[]",
    "no flags": "{}",
    "a flag that is a word": '{"flags": {"shop.colour": "blue"}}',
    "no such state": json.dumps({"flags": {"shop.colour": {**BLUE, "state": "on"}}}),
    "no variants": json.dumps({"flags": {"shop.colour": {**BLUE, "variants": {}}}}),
    "no such variant": json.dumps({"flags": {"shop.colour": {**BLUE, "defaultVariant": "green"}}}),
    "a value nobody knows": json.dumps(
        {"flags": {"shop.colour": {**BLUE, "variants": {"red": "red", "blue": "bleu"}}}}
    ),
    "a word for a yes": json.dumps(
        {"flags": {"shop.open": {**definition(OPEN), "variants": {"yes": "yes"}}}}
    ),
    "a number for a no": json.dumps(
        {"flags": {"shop.open": definition(OPEN, variants={"yes": True, "no": 0})}}
    ),
    "no such rule": json.dumps({"flags": {"shop.colour": {**BLUE, "targeting": {"fractionl": []}}}}),
    "a rule that is a list": json.dumps({"flags": {"shop.colour": {**BLUE, "targeting": [1]}}}),
    "a rule about nothing": json.dumps({"flags": {"shop.colour": {**BLUE, "targeting": {"<": [{}, []]}}}}),
    "too deep": "[" * 100_000,
    "too long": " " * (flags.FILE_BYTES_MAX + 1),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_cannot_be_used_changes_nothing_and_says_so_once(file: Path, text: str) -> None:
    write(file, BLUE)
    heeded = heeding(file)
    with telemetry.captured() as lines:
        for _ in range(2):
            write(file, text=text or "\n")
            heeded.look()
    assert heeded.value(COLOUR, "u1") == "blue"
    assert [line["event"] for line in lines] == ["flags file cannot be used: what held before holds"]
    assert heeded.problem
    write(file, definition(COLOUR))
    heeded.look()
    assert not heeded.problem
    assert heeded.value(COLOUR) == "red"


def test_a_file_that_is_gone_changes_nothing_until_it_is_back(file: Path) -> None:
    write(file, BLUE)
    heeded = heeding(file)
    file.unlink()
    heeded.look()
    heeded.look()
    assert heeded.value(COLOUR) == "blue"
    assert heeded.problem
    write(file, definition(COLOUR))
    heeded.look()
    assert heeded.value(COLOUR) == "red"


def test_a_file_that_was_never_usable_leaves_the_defaults(tmp_path: Path) -> None:
    heeded = heeding(tmp_path / "nowhere.json")
    assert heeded.value(COLOUR) == "red"
    assert heeded.problem


def test_a_rule_that_leads_nowhere_for_some_leaves_them_the_default_and_is_told_once_a_file(
    file: Path,
) -> None:
    rule = {"if": [{"==": [{"var": "targetingKey"}, "u1"]}, "green", "blue"]}
    write(file, {**BLUE, "targeting": rule})
    heeded = heeding(file)
    with telemetry.captured() as lines:
        assert [heeded.value(COLOUR, key) for key in ("u1", "u1", "u2")] == ["red", "red", "blue"]
        write(file, {**BLUE, "targeting": rule})
        heeded.look()
        assert heeded.value(COLOUR, "u1") == "red"
    assert [line.get("flag") for line in lines] == ["shop.colour", None, "shop.colour"]


def test_flags_of_others_are_theirs_and_misspelt_ones_are_told(file: Path) -> None:
    others = {"shop.color": BLUE, "warehouse.tidy": {"state": "ENABLED", "variants": {"very": "very"}}}
    with telemetry.captured() as lines:
        write(file, text=json.dumps({"flags": {"shop.colour": BLUE, **others}}))
        assert heeding(file).value(COLOUR) == "blue"
    assert lines[-1]["unknown"] == ["shop.color"]


def test_who_follows_a_flag_is_told_at_once_and_of_every_change(file: Path) -> None:
    heeded, told = heeding(file), list[bool]()
    heeded.follow(OPEN, told.append)
    write(file, BLUE)
    heeded.look()
    write(file, BLUE, definition(OPEN, defaultVariant="no"))
    heeded.look()
    write(file, text="?")
    heeded.look()
    assert told == [True, False]


def test_a_flag_that_was_not_declared_here_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Flags(DECLARED).value(SHEDDING)


async def test_a_server_sheds_or_does_not_as_the_file_says_and_is_degraded_by_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flags, "LOOK_EVERY_S", 0.01)
    file = tmp_path / "flags.json"
    file.write_text(file_of([SHEDDING]))
    server = app.App(ServiceSettings(service="shop", guests_plaintext=True), access=Everyone())
    server.heed(Flags([SHEDDING], service="shop", file=file))
    limiter = server._onion.limiter
    async with server.running():
        assert limiter.is_enforced
        write(file, text=file_of([SHEDDING]).replace('"defaultVariant": "on"', '"defaultVariant": "off"'))
        await until(lambda: not limiter.is_enforced)
        write(file, text="?")
        await until(lambda: server.health.state is State.DEGRADED)
        assert server.health.report()["checks"]["flags"]["problem"] == "FlagsFileUnusable"
        assert not limiter.is_enforced
        file.write_text(file_of([SHEDDING]))
        await until(lambda: limiter.is_enforced and server.health.state is State.SERVING)
