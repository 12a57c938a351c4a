"""The report as files: Markdown for people and, beside it, JSON for machines."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.soak.report import Report
from tests.soak.shows import Played


def write(path: Path, played: Sequence[Played], report: Report | None) -> None:
    """To `path`, and to the same name with `.json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_lines(played, report)) + "\n", encoding="utf-8")
    content = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "shows": [one.as_json() for one in played],
        "soak": _plain(report) if report else None,
    }
    path.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _lines(played: Sequence[Played], report: Report | None) -> Iterator[str]:
    yield f"# Soak of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    for one in played:
        yield ""
        yield from one.lines()
    if report:
        yield ""
        yield f"## shopping while programs die: {'held' if report.holds else 'NOT HELD'}"
        yield ""
        yield "```"
        yield from report.lines()
        yield "```"


def _plain(report: Report) -> dict[str, Any]:
    # Not `asdict`: it takes a Counter apart into pairs and counts those.
    return {field.name: getattr(report, field.name) for field in fields(report)}
