"""`bodega certs`, as somebody types it."""

import contextlib
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.chassis.tls import Identity, TlsFiles
from services.cli.certificates import WORKLOADS

BODEGA = (sys.executable, "-m", "services.cli")
END_MAX_S = 60.0
AGAIN_S = 10.0


def certs(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*BODEGA, "certs", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=END_MAX_S, check=False)


def identity(folder: Path, workload: str) -> Identity:
    own = folder / workload
    return Identity(TlsFiles(certificate=own / "certificate.pem", authorities=own / "authorities.pem"))


def test_it_makes_what_every_workload_needs_and_then_leaves_it_alone(tmp_path: Path) -> None:
    done = certs(tmp_path / "certificates", "--host", "user.shop.svc")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == list(WORKLOADS)
    for workload in WORKLOADS:
        assert identity(tmp_path / "certificates", workload).present()
    again = certs(tmp_path / "certificates")
    assert (again.returncode, again.stdout) == (0, "")


def test_another_authority_is_told_to_everybody(tmp_path: Path) -> None:
    assert certs(tmp_path).returncode == 0
    before = identity(tmp_path, "order").present()
    done = certs(tmp_path, "--new-authority")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, len(WORKLOADS))
    after = identity(tmp_path, "order").present()
    assert after.certificate == before.certificate
    assert after.authorities.count(b"BEGIN CERTIFICATE") == 2


def interrupted(process: "subprocess.Popen[str]") -> int:
    """What it ends with. As people do, asks again: what comes just as Python falls asleep it hears later."""
    for _ in range(int(END_MAX_S / AGAIN_S)):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(AGAIN_S)
    raise TimeoutError


def test_it_stays_where_it_is_asked_to(tmp_path: Path) -> None:
    command = [*BODEGA, "certs", str(tmp_path), "--keep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("user: ")
            assert process.poll() is None
            assert interrupted(process) == 130
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("options", "content", "why"),
    [
        (("--new-authority",), None, "has no authority yet"),
        ((), "something else", "is not what `bodega` wrote there"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    tmp_path: Path, options: tuple[str, ...], content: str | None, why: str
) -> None:
    if content:
        (tmp_path / "authority").mkdir()
        (tmp_path / "authority" / "signer.pem").write_text(content)
    done = certs(tmp_path, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"bodega: .*{why}.*\n", done.stderr)
