"""`make soak`: shows of what may go wrong, at full length (shows.py); then shops at random in a shop whose
programs keep dying, and checks that everything holds.

python -m tests.soak [--shows all] [--minutes 60] [--report soak.md] [--seed N] [--data DIR] …

What is done is drawn from the seed; when programs die meanwhile is not, so a run is never repeated exactly.
Exit code 1 and the shops' folders if anything is violated. Ctrl-C ends the shopping early, and still checks.
"""

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from services.cli.refusal import EXIT_CODE, Refused
from tests.soak import notes, shows
from tests.soak.report import Report
from tests.soak.shows import Played, Show
from tests.soak.soak import Soak, Wish

EXIT_VIOLATED: Final = 1


def main() -> int:
    arguments = _arguments()
    folder = arguments.data or Path(tempfile.mkdtemp(prefix="bodega-soak-"))
    wish = Wish(
        seconds=arguments.minutes * 60,
        seed=arguments.seed,
        shoppers=arguments.shoppers,
        blow_every_s=arguments.blow_every,
        verify_every_s=arguments.verify_every,
    )
    try:
        results, report = asyncio.run(_run(folder, shows.named(arguments.shows), wish))
    except (Refused, ValueError) as refused:
        print(f"soak: {refused}", file=sys.stderr)  # noqa: T201 (what the user is told)
        return EXIT_CODE
    if arguments.report:
        notes.write(arguments.report, results, report)
    for result in results:
        print("\n".join(result.lines()), end="\n\n")  # noqa: T201 (what the user is told)
    if report:
        print("\n".join(report.lines()))  # noqa: T201 (what the user is told)
    if not all(result.holds for result in results) or (report and not report.holds):
        print(f"the shops are kept in {folder}")  # noqa: T201 (what the user is told)
        return EXIT_VIOLATED
    if arguments.data is None:
        shutil.rmtree(folder)
    return 0


async def _run(folder: Path, wanted: Sequence[Show], wish: Wish) -> tuple[list[Played], Report | None]:
    console = Console(stderr=True, highlight=False)
    with console.status(f"in {folder}, seed {wish.seed}") as status:
        results = await shows.played(wanted, folder / "shows", progress=status.update, tell=console.print)
        if not wish.seconds:
            return results, None
        soak = Soak(folder / "soak", wish, progress=status.update, tell=console.print)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, soak.stop)
        return results, await soak.run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shows", default="all", help="which: their names, with commas; all, none (all)")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long is shopped (60); 0: not at all")
    parser.add_argument("--report", type=Path, metavar="FILE.md", help="where it is written, and FILE.json")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="what is done (any)")
    parser.add_argument("--shoppers", type=int, default=8, help="how many at once (8)")
    parser.add_argument("--blow-every", type=float, default=10.0, help="seconds between deaths (10)")
    parser.add_argument("--verify-every", type=float, default=120.0, help="seconds of shopping a round (120)")
    parser.add_argument("--data", type=Path, help="the shops' folder, which is kept")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
