"""The flags that a shop has, for the file its keeper edits."""

from typing import Any, Final

from services.chassis.flags import SHEDDING, Flag
from services.order.flags import CAPTURE

ALL: Final[tuple[Flag[Any], ...]] = (SHEDDING, CAPTURE)
