"""Passwords that cost next to nothing, for shops in which only tests sign in."""

from collections.abc import Mapping
from typing import Final

CHEAP_PASSWORDS: Final[Mapping[str, str]] = {
    "BODEGA_USER__PASSWORD_TIME_COST": "1",
    "BODEGA_USER__PASSWORD_MEMORY_KIB": "32",
    "BODEGA_USER__PASSWORD_PARALLELISM": "1",
}
