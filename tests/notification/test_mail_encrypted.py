"""E-mail over TLS, to servers that ask who one is."""

import ssl
import subprocess
from pathlib import Path

import pytest

from services.chassis.telemetry import captured
from services.chassis.testing import until
from services.notification.domain import TRIES_MAX
from services.notification.mail import MailServer
from tests.notification.post import Scene, letter_to, post_office


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server on 127.0.0.1, and for a client that trusts it."""
    key, own = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", str(key), "-out", str(own), "-days", "2", "-subj", "/CN=post"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(own, key)
    return server, ssl.create_default_context(cafile=own)


async def test_a_letter_travels_encrypted_and_signed_in(scene: Scene, tmp_path: Path) -> None:
    served, trusting = certificate(tmp_path)
    server = {"security": "starttls", "tls": trusting, "username": "shop", "password": "right"}
    await scene.add(letter_to())
    async with (
        post_office(tls_context=served, require_starttls=True, auth_required=True) as post,
        scene.mailing(post.port, **server),
    ):
        await scene.settled()
    assert (post.encrypted, post.signed_in) == ([True], [b"shop"])
    assert await scene.stands() == [("SENT", 1, "")]


async def test_a_letter_travels_encrypted_from_the_start(scene: Scene, tmp_path: Path) -> None:
    served, trusting = certificate(tmp_path)
    await scene.add(letter_to())
    async with (
        post_office(tls_from_the_start=served) as post,
        scene.mailing(post.port, security="tls", tls=trusting),
    ):
        await scene.settled()
    assert await scene.stands() == [("SENT", 1, "")]
    assert len(post.letters) == 1


@pytest.mark.parametrize("login", [{}, {"username": "shop", "password": "right"}])
async def test_a_server_that_cannot_encrypt_gets_neither_letter_nor_password(
    scene: Scene, login: dict[str, str]
) -> None:
    await scene.add(letter_to())
    trusting = ssl.create_default_context()
    async with scene.mailing(scene.post.port, security="starttls", tls=trusting, **login):
        await until(lambda: scene.post.visits > TRIES_MAX)
    assert (scene.post.letters, scene.post.signed_in) == ([], [])
    assert await scene.stands() == [("PENDING", 0, "")]


async def test_a_server_nobody_vouches_for_gets_neither_letter_nor_password(
    scene: Scene, tmp_path: Path
) -> None:
    served, _ = certificate(tmp_path)
    stranger = {"security": "starttls", "username": "shop", "password": "right"}
    await scene.add(letter_to())
    async with (
        post_office(tls_context=served) as post,
        scene.mailing(post.port, tls=ssl.create_default_context(), **stranger),
    ):
        await until(lambda: post.visits > TRIES_MAX)
    assert await scene.stands() == [("PENDING", 0, "")]
    assert (post.letters, post.signed_in) == ([], [])


async def test_a_wrong_password_waits_to_be_mended(scene: Scene, tmp_path: Path) -> None:
    served, trusting = certificate(tmp_path)
    server = {"security": "starttls", "tls": trusting, "username": "shop", "password": "wrong"}
    await scene.add(letter_to())
    with captured("warning") as lines:
        async with (
            post_office(tls_context=served, auth_required=True) as post,
            scene.mailing(post.port, **server),
        ):
            await until(lambda: len(lines) > TRIES_MAX)
    assert "SIGN_IN_REFUSED_535" in str(lines)
    assert await scene.stands() == [("PENDING", 0, "")]
    assert "wrong" not in str(lines)
    assert "wrong" not in repr(MailServer("127.0.0.1", 25, "none", 1.0, "shop", "wrong"))
