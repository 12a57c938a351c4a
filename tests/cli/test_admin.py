"""`bodega admin create`: what it asks, whom it calls, and what it says when it cannot."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from bodega.user.v1 import user_pb2, user_pb2_grpc
from bodega.user.v1.user_pb2_grpc import add_UserServiceServicer_to_server

from services.chassis import app
from services.chassis.config import ServiceSettings
from services.chassis.identity.workload import workload_of
from services.chassis.server.access import Everyone
from services.cli import admin
from services.cli.certificates import Certificates
from services.cli.endpoints import Endpoints, ServiceEndpoint
from services.cli.refusal import Refused
from services.kernel import errors

PASSWORD = "correct horse battery"


class EmailRefused(errors.Invalid):
    """No."""


class Users(user_pb2_grpc.UserServiceServicer):
    """Notes who asks for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, user_pb2.CreateAdministratorRequest]] = []

    async def CreateAdministrator(
        self, request: user_pb2.CreateAdministratorRequest, context: Any
    ) -> user_pb2.User:
        self.asked.append((workload_of(context), request))
        if request.email.startswith("no"):
            raise EmailRefused
        return user_pb2.User(user_id="u1", username=request.username)


def users() -> Users:
    return Users()  # type: ignore[abstract]  # the one RPC that is asked of it


@asynccontextmanager
async def a_shop(folder: Path, servicer: Users) -> AsyncIterator[Endpoints]:
    """Of a user service alone, with certificates as `bodega up` makes them."""
    certificates = Certificates(folder)
    certificates.renew()
    settings = ServiceSettings(
        service="user",
        guests_plaintext=True,
        tls={
            "certificate": certificates.of("user"),
            "authorities": certificates.authorities("user"),
        },
    )
    server = app.App(settings, access=Everyone())
    server.serve(add_UserServiceServicer_to_server, servicer, user_pb2.DESCRIPTOR)
    async with server.running():
        at = ServiceEndpoint(server.grpc_address, server.operations_address, 7, "", mesh=server.mesh_address)
        yield Endpoints("http://127.0.0.1:1", "nats://127.0.0.1:1", {"user": at}, certificates=str(folder))


async def test_the_user_service_is_asked_by_the_operator(tmp_path: Path) -> None:
    asked = users()
    async with a_shop(tmp_path, asked) as shop:
        made = await admin.create_administrator(shop, "root@example.com", "root", PASSWORD)
    assert (made.user_id, made.username) == ("u1", "root")
    [(caller, request)] = asked.asked
    assert caller == "operator"
    assert (request.email, request.username, request.password) == ("root@example.com", "root", PASSWORD)
    assert request.request_id


async def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    async with a_shop(tmp_path, users()) as shop:
        with pytest.raises(Refused, match=r"^No\.$"):
            await admin.create_administrator(shop, "no@example.com", "root", PASSWORD)
        with pytest.raises(Refused, match="password") as refused:
            await admin.create_administrator(shop, "root@example.com", "root", "short")
    assert "short" not in str(refused.value)


async def test_without_certificates_there_is_no_operator(tmp_path: Path) -> None:
    async with a_shop(tmp_path / "certificates", users()) as shop:
        for without in (
            replace(shop, certificates=""),
            replace(shop, certificates=str(tmp_path / "elsewhere")),
            replace(shop, services={"user": replace(shop.services["user"], mesh="")}),
        ):
            with pytest.raises(Refused):
                await admin.create_administrator(without, "root@example.com", "root", PASSWORD)


async def test_a_user_service_that_is_away_is_named(tmp_path: Path) -> None:
    async with a_shop(tmp_path, users()) as shop:
        pass
    with pytest.raises(Refused):
        await admin.create_administrator(shop, "root@example.com", "root", PASSWORD)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_comes_from_a_file_without_the_end_of_its_line(tmp_path: Path, end: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(f" {PASSWORD} {end}".encode())
    assert admin._password(file) == f" {PASSWORD} "


def test_a_password_comes_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    assert admin._password(Path("-")) == PASSWORD


def test_a_password_is_asked_for_where_there_is_somebody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def prompt(_: str, **how: Any) -> str:
        asked.append(how)
        return PASSWORD

    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr(typer, "prompt", prompt)
    assert admin._password(None) == PASSWORD
    assert asked == [{"hide_input": True, "confirmation_prompt": True}]


@pytest.mark.parametrize("file", [None, "nowhere", "binary"])
def test_a_password_that_cannot_be_had_is_refused(
    file: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(Refused):
        admin._password(tmp_path / file if file else None)
