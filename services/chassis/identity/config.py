"""Whose tokens are believed."""

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, model_validator

from services.chassis.policy.access import ROLES

KEYS_RPC: Final = "/bodega.user.v1.SessionService/ListSigningKeys"

Algorithm = Literal["EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
"""Asymmetric ones only: who can verify a token must not be able to make one."""


class OidcIssuer(BaseModel):
    """An issuer outside the shop, such as a company's single sign-on (OpenID Connect)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1)
    """Its `iss`, to the letter."""

    jwks_url: HttpUrl
    """Where its keys are; https, but on this machine."""

    audience: str = Field(min_length=1)
    """What its tokens for this shop say in `aud`."""

    algorithms: frozenset[Algorithm] = frozenset({"RS256", "ES256", "EdDSA"})

    roles_claim: str = "roles"
    """Where it lists roles; dots lead into nested objects, as in `realm_access.roles`."""

    roles: dict[str, str] = Field(default_factory=dict)
    """Its words for our roles, e.g. `{shop-helpdesk: support}`; others mean nothing."""

    user_claim: str = "bodega_user_id"
    """Which claim is the id of an account here. Not `sub`: that names people in the issuer's own house."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.jwks_url.scheme != "https" and self.jwks_url.host not in ("127.0.0.1", "localhost", "[::1]"):
            raise ValueError(f"{self.issuer}: jwks_url must be https")
        if unknown := sorted(set(self.roles.values()) - ROLES):
            raise ValueError(f"{self.issuer}: there is no role {', '.join(unknown)}")
        return self


class IdentitySettings(BaseModel):
    """Whose tokens a program believes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = "bodega"
    """The shop's own, the user service."""

    audience: str = "bodega"

    keys_target: str = ""
    """`host:port` where the user service tells its public keys; empty: its tokens are not believed."""

    oidc: tuple[OidcIssuer, ...] = ()
