"""How a shop gets somebody to run it."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.edge import new_id
from services.cli.shopper import Shopper
from services.cli.surprise import Surprise

RUN_MAX_S = 60.0


def created(data: Path, email: str, password: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "services.cli", "admin", "create", email]
    return subprocess.run(
        [*command, f"--username=root-{new_id()[:13]}", "--password-file=-", f"--data={data}"],
        input=password,
        capture_output=True,
        text=True,
        timeout=RUN_MAX_S,
        check=False,
    )


def test_who_was_made_an_administrator_signs_in_with_the_new_password_and_no_other(
    data: Path, shopper: Shopper
) -> None:
    email = f"root-{new_id()}@example.com"
    first, second = new_id(), new_id()
    for password in (first, second):
        done = created(data, email, password)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert "administers the shop" in done.stdout
        assert password not in done.stdout
    signed_in = shopper.ask("POST", "/api/v1/sessions", body={"email": email, "password": second})
    assert signed_in["accessToken"]
    with pytest.raises(Surprise, match="INVALID_CREDENTIALS"):
        shopper.ask("POST", "/api/v1/sessions", body={"email": email, "password": first})


def test_what_cannot_be_an_administrator_is_refused_in_one_line(data: Path) -> None:
    done = created(data, "nobody", "a long enough password")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("bodega: ")
    assert "email" in done.stderr
    assert done.stderr.count("\n") == 1
