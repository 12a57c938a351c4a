"""READMEs name what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = sorted({*ROOT.glob("README.md"), *ROOT.glob("[!.]*/**/README.md")})

# `saga.py`, `*_store.py`, `chassis/feed.py`; folders by their place in the house, such as `tests/faults/`.
NAMED = re.compile(
    r"`([\w./*-]+\.(?:py|md|proto|svg)|(?:deploy|gateway|gen|protos|services|tests)/[\w./-]*/)`"
)


def named_in(readme: Path) -> list[str]:
    return NAMED.findall(readme.read_text(encoding="utf-8"))


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: str(readme.relative_to(ROOT)))
def test_a_readme_names_files_that_exist(readme: Path) -> None:
    places = readme.parent, ROOT, ROOT / "services"
    gone = [name for name in named_in(readme) if not any(any(place.glob(name)) for place in places)]
    assert not gone


def test_there_are_names_to_look_at() -> None:
    assert {"services/order/saga.py", "tests/faults/"} <= {*named_in(ROOT / "README.md")}
