"""Failed attempts to sign in, in and out of a transaction."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from services.chassis.storage.retention import Retention
from services.chassis.storage.session import Session
from services.chassis.storage.statement import Statement, insert
from services.kernel.clock import from_micros, to_micros
from services.user.lockout import FORGOTTEN_AFTER, Failures
from services.user.tables import lockouts

RETENTION: Final = Retention(lockouts, lockouts.c.fail_time, FORGOTTEN_AFTER)
"""For the janitor."""


class Lockouts:
    """Who failed how often."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def check(self, subjects: Iterable[Failures], *, at: datetime) -> None:
        """Raises SignInLocked if one of them may not try now."""
        for subject in subjects:
            self._known(subject).check(at)

    def fail(self, subjects: Iterable[Failures], *, at: datetime) -> None:
        """One more failure for each."""
        for subject in subjects:
            failures = self._known(subject).failed(at)
            self._session.run(
                _SET, subject=failures.subject, failures=failures.count, fail_time=to_micros(at)
            )

    def forget(self, subject: Failures) -> None:
        """As if it had never failed."""
        self._session.run(_FORGET, subject=subject.subject)

    def _known(self, subject: Failures) -> Failures:
        row = self._session.one(_FIND, subject=subject.subject)
        if row is None:
            return subject
        return Failures(subject.subject, subject.limit, row["failures"], from_micros(row["fail_time"]))


_ADD = insert(lockouts).values({c.name: sa.bindparam(c.name) for c in lockouts.columns})
_SET: Final = Statement(
    _ADD.on_conflict_do_update(
        index_elements=["subject"],
        set_={"failures": _ADD.excluded.failures, "fail_time": _ADD.excluded.fail_time},
    )
)
_FIND: Final = Statement(sa.select(lockouts).where(lockouts.c.subject == sa.bindparam("subject")))
_FORGET: Final = Statement(sa.delete(lockouts).where(lockouts.c.subject == sa.bindparam("subject")))
