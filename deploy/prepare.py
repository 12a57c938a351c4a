"""Makes what `docker compose up` needs beside the image: a secret a file, and which database the shop is on.

    python3 deploy/prepare.py --host shop.example

Needs Python alone. What is there stays as it is: run again, it adds what a newer release asks for. To make a
secret anew, remove its file first; README.md says what follows from that.
"""

import argparse
import base64
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

HERE: Final = Path(__file__).parent
SERVICES: Final = ("user", "inventory", "order", "payment", "notification")
PROVIDER: Final = "sandbox_provider"
SECRET_BYTES: Final = 32

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"

# The server shows a certificate of the shop's authority for this name, and is refused with any other.
_VERIFIED: Final = urlencode(
    {"sslmode": "verify-full", "sslrootcert": "/run/bodega/certificates/authorities.pem"}, safe="/"
)

Make = Callable[[], str]


def main() -> int:
    arguments = _arguments()
    folder: Path = arguments.folder / "secrets"
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        for name, make in wanted(folder, arguments.database):
            _write_once(folder / name, make)
    except Mixed as mixed:
        print(f"prepare: {mixed}", file=sys.stderr)  # noqa: T201 (for whoever typed it)
        return 2
    environment = arguments.folder / ".env"
    if not environment.exists():  # or it has been added to since
        profile = POSTGRESQL if arguments.database == POSTGRESQL else ""
        environment.write_text(
            f"COMPOSE_PROFILES={profile}\nBODEGA_HOST={arguments.host}\n", encoding="utf-8"
        )
    print(f"{folder} and {environment} are ready")  # noqa: T201
    return 0


class Mixed(Exception):
    """The secrets that are there are those of a shop on another kind of database."""


def wanted(folder: Path, database: str) -> Iterator[tuple[str, Make]]:
    """Every secret by the name of its file, and how to make it. Raises Mixed."""
    for service in SERVICES:
        yield f"bodega_{service}__request_digest_secret", _random
    yield "bodega_user__signing_key_secret", _random
    yield "bodega_payment__webhook_secret", _webhook_secret
    for name in ("postgres", *SERVICES, PROVIDER):
        yield _password_file(name), _random
    for service in SERVICES:
        yield _url(folder, f"bodega_{service}__database_url", service, service, database)
    yield _url(folder, "bodega_payment__provider_database_url", "payment", PROVIDER, database)


def _url(folder: Path, file: str, service: str, name: str, database: str) -> tuple[str, Make]:
    present = folder / file
    if present.exists() and not present.read_text(encoding="utf-8").startswith(database):
        raise Mixed(f"{present} is not an address of {database}; remove it if that is meant")

    def make() -> str:
        if database == SQLITE:
            return f"sqlite:////var/lib/bodega/databases/{service}/{name}.db"
        password = (folder / _password_file(name)).read_text(encoding="utf-8")
        return f"postgresql://{name}:{password}@postgres.bodega/{name}?{_VERIFIED}"

    return file, make


def _password_file(name: str) -> str:
    return "postgres_password" if name == "postgres" else f"postgres_{name}_password"


def _random() -> str:
    return secrets.token_hex(SECRET_BYTES)


def _webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def _write_once(path: Path, make: Make) -> None:
    if path.exists():
        return
    path.write_text(make(), encoding="utf-8")
    # Compose shows a container the file as it is, and containers run as somebody else. On this machine the
    # folder's mode keeps others out.
    path.chmod(0o444)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="prepare.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--host", default="localhost", help="the name or address that guests call services by"
    )
    parser.add_argument("--database", choices=(POSTGRESQL, SQLITE), default=POSTGRESQL)
    parser.add_argument("--folder", type=Path, default=HERE, help="where compose.yaml is")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
