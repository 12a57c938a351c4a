"""Everything a shop keeps on a laptop, in one folder: databases, streams, secrets, logs.

DIR/lock              held by the `bodega up` that runs this shop
DIR/endpoints.json    where everything is; there while all of it is ready
DIR/databases/        a file a service, and the sandbox provider's own books; or
DIR/server            the address of the PostgreSQL server that has them, password included; 0600
DIR/nats/             the broker's configuration and streams
DIR/secrets/          generated once; 0600
DIR/certificates/     a folder a workload, renewed while the shop runs; see certificates.py
DIR/logs/             a file a program
DIR/api.binpb         the contracts, as the gateway reads them
DIR/flags.json        what may be changed while the shop runs; written once, then its keeper's
"""

import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from services.chassis.identity import workload
from services.cli.refusal import Refused

DEFAULT: Final = Path(".bodega")
SERVICES: Final = ("user", "inventory", "order", "payment", "notification")
"""In the order of their ports."""

NATS: Final = "nats"
GATEWAY: Final = "gateway"
PROGRAMS: Final = (NATS, *SERVICES, GATEWAY)

OPERATOR: Final = workload.OPERATOR
"""The workload that the command line is, and whoever sits at it."""

PROVIDER: Final = "sandbox_provider"
"""Whose books have a database of their own, too."""

_SECRET_BYTES: Final = 32

# `up` and readers that ask whether it runs may collide for an instant; a real owner outlasts this.
_LOCK_PATIENCE_S: Final = 0.2
_LOCK_EVERY_S: Final = 0.02


class DataFolder:
    """The paths of a shop's data. Making one touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def endpoints(self) -> Path:
        return self.path / "endpoints.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def certificates(self) -> Path:
        return self.path / "certificates"

    @property
    def nats(self) -> Path:
        return self.path / "nats"

    @property
    def descriptor_set(self) -> Path:
        return self.path / "api.binpb"

    @property
    def flags(self) -> Path:
        return self.path / "flags.json"

    @property
    def databases(self) -> dict[str, Path]:
        """Each service's own, by its name."""
        return {name: self.path / "databases" / f"{name}.db" for name in SERVICES}

    @property
    def provider_database(self) -> Path:
        """The sandbox provider's books, which are not ours to write."""
        return self.path / "databases" / "sandbox_provider.db"

    @property
    def server(self) -> str:
        """The PostgreSQL server that has this shop's databases; empty if they are files here."""
        try:
            return (self.path / "server").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""

    def keep_on(self, server: str) -> None:
        """Has the databases on a server, now and from now on. Raises Refused if they are somewhere else."""
        if not server.startswith("postgresql://"):
            raise Refused("--database wants the address of a server: postgresql://USER:PASSWORD@HOST:PORT")
        if self.server != server:
            if self.server or any(file.exists() for file in self.databases.values()):
                raise Refused(f"{self.path} has its databases elsewhere; choose another folder with --data")
            write_whole(self.path / "server", server.encode())

    def address(self, name: str) -> str:
        """Where a database is, of a service or PROVIDER: the path of its file, or its address."""
        if self.server:
            parts = urlsplit(self.server)
            return parts._replace(path=f"/bodega_{name}").geturl()
        return str(self.provider_database if name == PROVIDER else self.databases[name])

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"

    def create(self) -> None:
        """Makes what is missing, readable by its owner alone. Raises Refused if that cannot be done."""
        if "?" in str(self.path):
            raise Refused(f"{self.path} cannot be the data folder: SQLite addresses cannot hold a '?'")
        try:
            for folder in (self.path, self.path / "databases", self.logs, self.secrets, self.nats):
                folder.mkdir(mode=0o700, parents=folder == self.path, exist_ok=True)
            for service in SERVICES:
                _make_secret(self.secrets / f"bodega_{service}__request_digest_secret")
            _make_secret(self.secrets / "bodega_user__signing_key_secret")
        except OSError as error:
            raise Refused(f"{self.path} cannot be the data folder: {error.strerror}") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else runs this shop meanwhile. Raises Refused if somebody does."""
        descriptor = _open_lock(self.path / "lock")
        try:
            if not _lock(descriptor):
                raise Refused(f"a shop is already running on {self.path}")
            yield
        finally:
            os.close(descriptor)

    @property
    def is_in_use(self) -> bool:
        """Whether a `bodega up` is running this shop; also true where no lock can be seen, as for a copy."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


def sqlite_url(database: str | Path) -> str:
    """The address of a database by its file; an address stays what it is."""
    return str(database) if "://" in str(database) else f"sqlite:///{database}"


def without_password(where: str) -> str:
    """An address as it may be shown."""
    return re.sub(r"(//[^:/@]*):[^/]*@", r"\1@", where)


def write_whole(path: Path, content: bytes) -> None:
    """The file appears with all of its content or not at all, also after a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _make_secret(path: Path) -> None:
    if not path.exists():
        write_whole(path, secrets.token_hex(_SECRET_BYTES).encode())


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused(f"{path.parent} cannot be the data folder: {error.strerror}") from None


def _lock(descriptor: int) -> bool:
    give_up = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
            time.sleep(_LOCK_EVERY_S)
        else:
            return True
