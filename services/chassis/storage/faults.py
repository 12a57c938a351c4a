"""What storage may say instead of answering."""

from services.kernel import errors


class StorageUnavailable(errors.Unavailable):
    """The database cannot do this right now."""


class StorageSilent(StorageUnavailable):
    """The database does not answer."""


class StorageNotMigrated(StorageUnavailable):
    """The database lacks tables."""


class StorageOutdated(StorageUnavailable):
    """The database has an older schema than this program needs; it has to be migrated."""


class StorageReadOnly(StorageUnavailable):
    """The database takes no writes."""


class StorageDamaged(StorageUnavailable):
    """The database cannot read its own pages."""


class StorageBusy(errors.Unavailable):
    """More transactions are waiting than the database can serve in time."""


class StorageClosed(errors.Unavailable):
    """The database is being closed."""


class RaceLost(errors.Stale):
    """Others changed the same things at the same moment, several times in a row; try again."""

    # Raised where there are several writers, by the database. The store runs such a transaction again.


class StaleVersion(errors.Stale):
    """{stream_id} is no longer at version {expected_version}."""

    # Raised by whoever saves an aggregate and finds that it moved. The store runs such a transaction again
    # a few times before the caller hears of it; a stale etag of the caller's own is a plain `Stale`.


class TransactionLost(Exception):  # not a DomainError: nobody but the writer ever sees it
    """The database has rolled back the whole transaction under the function that was running in it."""


class Rewind(BaseException):  # so that no transaction function takes it for an error of its own
    """Something must be undone in a transaction that was begun without savepoints: run it again with them."""
