"""compose.yaml as this shop's own reading of it, for the tests beside."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from services.chassis.config import ServiceSettings
from services.inventory.config import Settings as InventorySettings
from services.notification.config import NotificationSettings
from services.order.config import OrderSettings
from services.payment.config import PaymentSettings
from services.user.config import UserSettings

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"

KINDS: Final[dict[str, type[ServiceSettings]]] = {
    "user": UserSettings,
    "inventory": InventorySettings,
    "order": OrderSettings,
    "payment": PaymentSettings,
    "notification": NotificationSettings,
}

CERTIFICATES: Final = "/run/bodega/certificates"

_VARIABLE: Final = re.compile(r"\$\{(\w+):-([^}]*)\}")


@cache
def composed() -> dict[str, Any]:
    """The whole file, every variable at its default."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(lambda match: match[2], text))
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = composed()["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    """Those that run our image."""
    return {name: one for name, one in services().items() if one["image"].startswith("bodega:")}


def mounts(name: str) -> Iterator[tuple[str, str, bool]]:
    """What a container is given: source, place, and whether it may write there."""
    for mount in services()[name].get("volumes", ()):
        source, place, *rest = mount.split(":")
        yield source, place, rest != ["ro"]


def option(name: str, option: str) -> list[str]:
    """What a program's arguments say of an option."""
    start = f"--{option}="
    return [word.removeprefix(start) for word in services()[name]["command"] if word.startswith(start)]
