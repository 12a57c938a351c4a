"""Which schema a program's code is written for, and whether the database has it.

The names of its migrations say so, `0005_capture.py`: Alembic, which reads what is in them, is nothing that a
running service needs to hold in memory.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import sqlalchemy as sa

from services.chassis.storage.faults import StorageOutdated
from services.chassis.storage.session import Row
from services.chassis.storage.statement import Statement

NEWER: Final = "StorageNewer"
"""Of a database that a later release has migrated: migrations suit the release that still runs."""

VERSION: Final = Statement(sa.select(sa.column("version_num")).select_from(sa.table("alembic_version")))


@dataclass(frozen=True, slots=True)
class Schema:
    """The revisions that a program knows, the newest of which its code is written for."""

    newest: str
    known: frozenset[str]

    @classmethod
    def beside(cls, program: str) -> Self:
        """Of the service whose `__main__.py` this is."""
        files = (Path(program).parent / "migrations" / "versions").glob("[0-9]*_*.py")
        known = frozenset(file.name.partition("_")[0] for file in files)
        return cls(max(known), known)

    def judge(self, found: Row | None) -> str:
        """What is worth telling of a database at this version, often nothing. Raises StorageOutdated."""
        version = None if found is None else found["version_num"]
        if version == self.newest:
            return ""
        if version is None or version in self.known:
            raise StorageOutdated
        return NEWER
