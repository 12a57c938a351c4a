"""Those who run a shop, each with an account of their own and the one role that their work takes."""

import asyncio
from dataclasses import dataclass

from services.cli import admin
from services.cli.edge import Edge, new_id
from services.cli.endpoints import Endpoints
from services.cli.signed_in import SignedIn


@dataclass(frozen=True, slots=True)
class Staff:
    """Who does what."""

    manager: SignedIn
    """Administers: activates accounts, grants roles."""

    keeper: SignedIn
    """Of the warehouse: products, stock, parcels."""

    helper: SignedIn
    """Of customers: sees what they see, cancels and refunds for them."""


def hired(shop: Endpoints) -> Staff:
    """New staff: the manager by the operator's certificate, the others by the manager.

    Raises Refused, and Surprise.
    """
    name, password = f"manager-{new_id()[:13]}", new_id()
    email = f"{name}@example.com"
    asyncio.run(admin.create_administrator(shop, email, name, password))
    manager = SignedIn(email, password)
    with Edge(shop.gateway, by=manager) as edge:
        return Staff(manager, _hire(edge, "Keeper", "ROLE_WAREHOUSE"), _hire(edge, "Helper", "ROLE_SUPPORT"))


def _hire(edge: Edge, display_name: str, role: str) -> SignedIn:
    user, signed_in = edge.register(display_name)
    account = f"/api/v1/users/{user['userId']}"
    edge.ask("POST", f"{account}:activate", body={})
    edge.ask("POST", f"{account}:grantRole", body={"role": role})
    return signed_in
