"""`make soak`: shops at random in a shop whose programs keep dying, and checks that everything holds.

python -m tests.soak [--minutes 60] [--seed N] [--data DIR] …

What is done is drawn from the seed; when programs die meanwhile is not, so a run is never repeated exactly.
Exit code 1 and the shop's folder if anything is violated. Ctrl-C ends it early, and still checks.
"""

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from services.cli.refusal import EXIT_CODE, Refused
from tests.soak.report import Report
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
        report = asyncio.run(_soaked(folder, wish))
    except Refused as refused:
        print(f"soak: {refused}", file=sys.stderr)  # noqa: T201 (what the user is told)
        return EXIT_CODE
    print("\n".join(report.lines()))  # noqa: T201 (what the user is told)
    if not report.holds:
        print(f"the shop is kept in {folder}")  # noqa: T201 (what the user is told)
        return EXIT_VIOLATED
    if arguments.data is None:
        shutil.rmtree(folder)
    return 0


async def _soaked(folder: Path, wish: Wish) -> Report:
    console = Console(stderr=True, highlight=False)
    with console.status(f"starting a shop in {folder}, seed {wish.seed}") as status:
        soak = Soak(folder, wish, progress=status.update, tell=console.print)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, soak.stop)
        return await soak.run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="what is done (any)")
    parser.add_argument("--shoppers", type=int, default=8, help="how many at once (8)")
    parser.add_argument("--blow-every", type=float, default=10.0, help="seconds between deaths (10)")
    parser.add_argument("--verify-every", type=float, default=120.0, help="seconds of shopping a round (120)")
    parser.add_argument("--data", type=Path, help="the shop's folder, which is kept")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
