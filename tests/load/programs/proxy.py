"""The naive edge alone, without a log, in front of one backend.

python -m tests.load.programs.proxy HOST:PORT
"""

import sys

from tests.load.naive import edge
from tests.load.programs import commands

if __name__ == "__main__":
    commands.run_yardstick(edge.serve(sys.argv[1], access_log=False))
