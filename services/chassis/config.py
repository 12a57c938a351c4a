"""Settings: defaults that work on a laptop ← YAML ← environment ← secrets files.

For the service `order`:

- `BODEGA_ORDER__GRPC_PORT=50053` in the environment,
- `order: {grpc_port: 50053}` in the YAML file that `BODEGA_CONFIG` names,
- a file `bodega_order__request_digest_secret` in the directory that `BODEGA_SECRETS_DIR` names
  (as Kubernetes and Docker mount secrets).

Every mistake is reported at once; a program with a wrong setting does not start.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, Field, IPvAnyNetwork, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from services.chassis.identity.config import IdentitySettings
from services.chassis.tls import TlsFiles, is_loopback
from services.chassis.tracing.config import TracingSettings

FILE_VARIABLE: Final = "BODEGA_CONFIG"
SECRETS_VARIABLE: Final = "BODEGA_SECRETS_DIR"
EXIT_CODE: Final = 2

LAPTOP_SECRET: Final = "not a secret: for laptops and tests"  # noqa: S105 (production refuses it)
_LAPTOP: Final = SecretStr(LAPTOP_SECRET)


class SettingsRefused(Exception):
    """The settings are wrong; `mistakes` has a line for each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class ServiceSettings(BaseSettings):
    """What every service can be told; services add their own by inheriting.

    Made directly, it takes only its arguments (for tests); programs use `load`.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    service: str
    """The service's one name, as in its proto package."""

    tls: TlsFiles | None = None
    """Who we are, and whom we trust. Without it there is no mesh port, and calls out stay on this machine."""

    mesh_host: str = "127.0.0.1"
    mesh_port: int = Field(default=0, ge=0, le=65535)
    """Where other workloads call, who have to show their certificates; 0 is any free port."""

    grpc_host: str = "127.0.0.1"
    grpc_port: int = Field(default=0, ge=0, le=65535)
    """Where guests call, people with tokens and no certificate: over TLS. 0 is any free port."""

    guests_plaintext: bool = False
    """Guests call in plaintext instead; only on a loopback host, never in production."""

    operations_host: str = "127.0.0.1"
    operations_port: int = Field(default=0, ge=0, le=65535)
    """Health and metrics over HTTP; never on the public edge."""

    database_url: str = Field(default="", repr=False)
    nats_url: str = Field(default="nats://127.0.0.1:4222", repr=False)
    """Either may hold a password, and then comes as a file like other secrets."""

    identity: IdentitySettings = IdentitySettings()
    """Whose tokens are believed."""

    rates_exempt: tuple[IPvAnyNetwork, ...] = ()
    """Networks whose calls are not counted for `rate_limits`, as JSON: load tests, our own monitoring."""

    flags_file: Path | None = None
    """What may be changed while everything runs (`chassis/flags.py`). Without it the defaults hold."""

    tracing: TracingSettings = TracingSettings()
    """Where spans go, and of which requests; nowhere, unless said."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    reflection: bool | None = None
    """Whether anyone who can connect may read the contracts. Unless said: everywhere but in production."""

    production: bool = False
    """Refuses what only laptops and tests may do: failpoints, built-in secrets, plaintext."""

    drain_delay_s: float = Field(default=0.0, ge=0, le=300)
    """Between saying NOT_SERVING and refusing calls: as long as balancers take to notice."""

    drain_grace_s: float = Field(default=15.0, ge=0, le=300)
    """How long calls in flight may take to end before they are cancelled."""

    request_digest_secret: SecretStr = _LAPTOP
    """Keys the digest by which repeated requests are recognised."""

    @property
    def serves_reflection(self) -> bool:
        return not self.production if self.reflection is None else self.reflection

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if dangers := tuple(self._dangers()):
            raise ValueError("; ".join(dangers))  # one error: pydantic would stop after the first of several
        return self

    def _dangers(self) -> Iterator[str]:
        if self.tls is None and not self.guests_plaintext:
            yield "tls must be set, or guests_plaintext on a laptop"
        if self.guests_plaintext and not is_loopback(self.grpc_host):
            yield f"guests_plaintext is for a loopback grpc_host, not for {self.grpc_host}"
        if self.guests_plaintext and self.production:
            yield "guests_plaintext is refused in production"
        if self.production:
            yield from (f"{name} must be set in production" for name in _built_in_secrets(self))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


S = TypeVar("S", bound=ServiceSettings)


def load(kind: type[S], service: str, environment: Mapping[str, str] = os.environ) -> S:
    """The settings of a service, from all sources.

    Raises SettingsRefused with every mistake found. Values are never part of it: they may be secrets.
    """
    prefix = f"BODEGA_{service}__".upper()
    mistakes = list(_unknown_variables(kind, prefix, environment))
    values: dict[str, Any] = {}
    sources: tuple[Callable[[], dict[str, Any]], ...] = (
        partial(_file_section, environment.get(FILE_VARIABLE), service),
        _Environment(kind, prefix, environment),
        partial(_secrets, kind, prefix, environment.get(SECRETS_VARIABLE)),
    )
    for read in sources:
        try:
            values = _merged(values, read())
        except (SettingsError, SettingsRefused) as error:
            mistakes.append(str(error))
    try:
        settings = kind(**{**values, "service": service})
    except ValidationError as error:
        raise SettingsRefused([*mistakes, *_lines(error, prefix)]) from None
    if mistakes:
        raise SettingsRefused(mistakes)
    return settings


def secret(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """One secret of a program that is told the rest by arguments, which every user of the machine can read.

    From the file in the secrets directory, else from the variable; empty if nobody told it.
    Raises SettingsRefused for a file that cannot be read.
    """
    if directory := environment.get(SECRETS_VARIABLE):
        path = Path(directory) / name.lower()
        try:
            return path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError):
            raise SettingsRefused([f"{SECRETS_VARIABLE}: cannot read {path}"]) from None
    return environment.get(name, "")


def load_or_exit(kind: type[S], service: str) -> S:
    """The same for programs: mistakes go to standard error, a line each, and end the program with code 2."""
    try:
        return load(kind, service)
    except SettingsRefused as refused:
        for mistake in refused.mistakes:
            print(f"{service}: {mistake}", file=sys.stderr)  # noqa: T201 (there is no log yet)
        raise SystemExit(EXIT_CODE) from None


def _built_in_secrets(settings: BaseModel, within: str = "") -> Iterator[str]:
    """Names of the secrets that everyone knows who can read our source, or that are no secrets at all."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _built_in_secrets(value, f"{within}{name}__")
        elif isinstance(value, SecretStr) and (not value or value in (field.default, _LAPTOP)):
            yield f"{within}{name}"


class _Environment(EnvSettingsSource):
    """pydantic's reading of nested and typed variables, from the environment given."""

    def __init__(self, kind: type[BaseSettings], prefix: str, environment: Mapping[str, str]) -> None:
        self._environment = environment
        super().__init__(kind, env_prefix=prefix, env_nested_delimiter="__", case_sensitive=False)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environment.items()}


def _secrets(kind: type[BaseSettings], prefix: str, directory: str | None) -> dict[str, Any]:
    if not directory:
        return {}
    if not Path(directory).is_dir():
        raise SettingsRefused([f"{SECRETS_VARIABLE}: {directory} is not a directory"])
    return SecretsSettingsSource(kind, secrets_dir=directory, env_prefix=prefix, case_sensitive=False)()


def _file_section(path: str | None, service: str) -> dict[str, Any]:
    if not path:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsRefused([f"{FILE_VARIABLE}: cannot read {path}: {error}"]) from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        raise SettingsRefused([f"{FILE_VARIABLE}: {path} is not YAML{_place(where)}"]) from None
    section = content.get(service) or {} if isinstance(content, dict) else content or {}
    if not isinstance(section, dict):
        raise SettingsRefused([f"{FILE_VARIABLE}: {path} must map {service} to its settings"])
    return section


def _place(mark: Any) -> str:
    return f" (line {mark.line + 1})" if mark else ""


def _unknown_variables(
    kind: type[BaseSettings], prefix: str, environment: Mapping[str, str]
) -> Iterator[str]:
    # pydantic passes over what it does not know, and a misspelt setting would silently do nothing.
    for name in sorted(environment):
        if name.upper().startswith(prefix):
            field = name[len(prefix) :].lower().split("__")[0]
            if field not in kind.model_fields or field == "service":
                yield f"{name}: there is no such setting"


def _merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for name, value in high.items():
        below = merged.get(name)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[name] = _merged(below or {}, value) if both else value
    return merged


def _lines(error: ValidationError, prefix: str) -> Iterator[str]:
    for mistake in error.errors(include_url=False, include_input=False, include_context=False):
        place = "__".join(str(part) for part in mistake["loc"])
        unknown = mistake["type"] == "extra_forbidden"
        said = "there is no such setting" if unknown else mistake["msg"].removeprefix("Value error, ")
        yield f"{place} ({prefix}{place.upper()}): {said}" if place else said
