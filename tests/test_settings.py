"""What holds for the settings of every service: secrets are secrets, and production has its own."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, SecretStr

from services.chassis import config
from services.chassis.config import ServiceSettings, SettingsRefused
from services.cli.data_folder import SERVICES

SECRET_WORDS = re.compile(r"secret|password|passphrase|token|credential")
PLACES = re.compile(r"database_url|nats_url")
OWN = "whsec_aHVudGVyMg=="  # fits every secret there is, also those that have a form
MISTAKE = "hunter2"


def settings_of(service: str) -> type[ServiceSettings]:
    module = importlib.import_module(f"services.{service}.config")
    return next(
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, ServiceSettings) and kind is not ServiceSettings
    )


def fields_of(kind: type[BaseModel], within: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Every setting, nested ones too: its name, its field, whether it is kept as a secret."""
    for name, field in kind.model_fields.items():
        kinds = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
        yield within + name, field, SecretStr in kinds
        for inner in kinds:
            if issubclass(inner, BaseModel):
                yield from fields_of(inner, f"{within}{name}__")


def variables(service: str, **told: str) -> dict[str, str]:
    needed = {"tls__certificate": "ours.pem", "tls__authorities": "authorities.pem"}
    if service == "payment":
        needed["provider_database_url"] = "sqlite://"
    return {f"BODEGA_{service}__{name}".upper(): value for name, value in {**needed, **told}.items()}


SECRETS = [
    (service, name, field)
    for service in SERVICES
    for name, field, is_secret in fields_of(settings_of(service))
    if is_secret
]


def test_the_secrets_are_known() -> None:
    """A new one is welcome here; one that vanishes from the list has become readable."""
    assert {(service, name) for service, name, _ in SECRETS} >= {
        *((service, "request_digest_secret") for service in SERVICES),
        ("user", "signing_key_secret"),
        ("payment", "webhook_secret"),
        ("notification", "smtp_password"),
    }


@pytest.mark.parametrize("service", SERVICES)
def test_whatever_is_called_a_secret_is_kept_as_one(service: str) -> None:
    for name, field, is_secret in fields_of(settings_of(service)):
        assert is_secret or not (SECRET_WORDS.search(name) and field.annotation is str), name
        assert is_secret or field.repr is False or not PLACES.search(name), name


@pytest.mark.parametrize("service", SERVICES)
def test_production_names_every_secret_that_was_not_set(service: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        config.load(settings_of(service), service, variables(service, production="true"))
    built_in = [name for owner, name, field in SECRETS if owner == service and field.default]
    for name in built_in:
        assert f"{name} must be set in production" in str(refused.value)
    assert str(refused.value).count("must be set in production") == len(built_in)


@pytest.mark.parametrize("empty", ["", config.LAPTOP_SECRET], ids=["empty", "the laptop's"])
def test_production_is_not_content_with_any_value(empty: str) -> None:
    told = variables("user", production="true", request_digest_secret="own", signing_key_secret=empty)
    with pytest.raises(SettingsRefused, match="signing_key_secret must be set in production"):
        config.load(settings_of("user"), "user", told)


@pytest.mark.parametrize("service", SERVICES)
def test_secrets_of_production_come_as_files_and_are_never_shown(service: str, tmp_path: Path) -> None:
    names = [name for owner, name, field in SECRETS if owner == service and field.default]
    for name in names:
        (tmp_path / f"bodega_{service}__{name}").write_text(f"{OWN}\n")
    (tmp_path / f"bodega_{service}__database_url").write_text("postgresql://bodega:hunter2@db/bodega")
    told = {**variables(service, production="true"), config.SECRETS_VARIABLE: str(tmp_path)}
    settings = config.load(settings_of(service), service, told)
    assert all(getattr(settings, name).get_secret_value() == OWN for name in names)
    assert "hunter2" in settings.database_url
    for shown in (repr(settings), str(settings)):
        assert OWN not in shown
        assert "hunter2" not in shown
        assert config.LAPTOP_SECRET not in shown


@pytest.mark.parametrize("service", SERVICES)
def test_mistakes_never_show_a_value(service: str) -> None:
    kind = settings_of(service)
    wrong = variables(service, **{name: MISTAKE for name, field, _ in fields_of(kind) if name in NUMBERS})
    wrong |= variables(service, webhook_secret=MISTAKE) if service == "payment" else {}
    with pytest.raises(SettingsRefused) as refused:
        config.load(kind, service, wrong)
    assert len(refused.value.mistakes) >= len(NUMBERS)
    assert MISTAKE not in str(refused.value)


NUMBERS = ("mesh_port", "grpc_port", "drain_grace_s", "log_level", "production", "tls")


@pytest.mark.parametrize("service", SERVICES)
def test_contracts_are_shown_in_production_only_if_that_was_said(service: str) -> None:
    own = {name: OWN for owner, name, field in SECRETS if owner == service and field.default}
    production = variables(service, production="true", **own)
    said = variables(service, reflection="true")
    kind = settings_of(service)
    assert not config.load(kind, service, production).serves_reflection
    assert config.load(kind, service, production | said).serves_reflection
    assert config.load(kind, service, variables(service)).serves_reflection


def test_a_secret_beside_arguments_comes_as_a_file_or_a_variable(tmp_path: Path) -> None:
    folder = {config.SECRETS_VARIABLE: str(tmp_path)}
    assert config.secret("BODEGA_EDGE__STORE", folder) == ""
    assert config.secret("BODEGA_EDGE__STORE", folder | {"BODEGA_EDGE__STORE": "variable"}) == "variable"
    (tmp_path / "bodega_edge__store").write_text("file\n")
    assert config.secret("BODEGA_EDGE__STORE", folder | {"BODEGA_EDGE__STORE": "variable"}) == "file"
    (tmp_path / "bodega_edge__store").write_bytes(b"\xff")
    with pytest.raises(SettingsRefused, match="cannot read"):
        config.secret("BODEGA_EDGE__STORE", folder)
