"""`make bench`: measures what things cost and writes the table and its picture.

python -m tests.load [--quick] [--rows server,store] [--out FOLDER]
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from services.cli.refusal import Refused
from tests.load import machine, picture, report
from tests.load.children import ChildFailed
from tests.load.figures import FULL, QUICK, Figure, Pace
from tests.load.load import LoadFailed
from tests.load.rows import ROWS

OUT: Final = Path(__file__).parent / "results"
_EXIT_FAILED: Final = 1


def main() -> int:
    arguments = _arguments()
    console = Console(highlight=False)
    pace = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory(prefix="bodega-bench-", dir=arguments.data) as folder:
        where = machine.described(Path(folder))
        console.print(where)
        figures = asyncio.run(measured(Path(folder), arguments.rows, pace, console))
    console.print(_table(figures))
    write(arguments.out, figures, where, " ".join(("python -m tests.load", *sys.argv[1:])))
    console.print(f"written: {arguments.out / 'performance.md'}, {arguments.out / 'performance.svg'}")
    return _EXIT_FAILED if any(figure.failed for figure in figures) else 0


async def measured(folder: Path, rows: Sequence[str], pace: Pace, console: Console) -> list[Figure]:
    """The figures of these rows, told as they come. One that fails leaves the others alone."""
    figures = []
    for name in rows:
        home = folder / name
        home.mkdir()
        try:
            async for figure in ROWS[name](home, pace):
                console.print(f"{figure.name}: {report.shown(figure)} {figure.verdict}")
                figures.append(figure)
        except (ChildFailed, LoadFailed, Refused) as failure:
            console.print(f"{name}: {failure}", markup=False)
            figures.append(Figure(name, target=None, value=None, note=str(failure), failed=True))
    return figures


def write(out: Path, figures: Sequence[Figure], where: str, command: str) -> None:
    """The table as Markdown, and the picture beside it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "performance.md").write_text(report.markdown(figures, where, command), encoding="utf-8")
    (out / "performance.svg").write_text(picture.svg(figures, where), encoding="utf-8")


def _table(figures: Sequence[Figure]) -> Table:
    table = Table(box=None)
    for name in report.HEAD[:-1]:
        table.add_column(name)
    for figure in figures:
        table.add_row(*report.cells(figure)[:-1])
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="half a minute: shows that it runs, proves nothing"
    )
    parser.add_argument(
        "--rows", type=_rows, default=list(ROWS), help=f"of {', '.join(ROWS)}; all by default"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder for performance.md and performance.svg")
    parser.add_argument("--data", type=Path, help="folder for databases, on the disk that is to be measured")
    return parser.parse_args()


def _rows(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        raise argparse.ArgumentTypeError(f"there is no row {unknown[0]}")
    return names


if __name__ == "__main__":
    sys.exit(main())
