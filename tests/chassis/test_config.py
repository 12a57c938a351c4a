from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from services.chassis import config
from services.chassis.config import ServiceSettings, SettingsRefused


class Oven(BaseModel):
    heat: int = 180
    fan: bool = False


class BakerySettings(ServiceSettings):
    oven: Oven = Oven()
    breads: tuple[str, ...] = ("rye",)


LAPTOP = {"BODEGA_BAKERY__GUESTS_PLAINTEXT": "true"}
TLS = {"BODEGA_BAKERY__TLS__CERTIFICATE": "bakery.pem", "BODEGA_BAKERY__TLS__AUTHORITIES": "authorities.pem"}


def loaded(**environment: str) -> BakerySettings:
    if not any("TLS" in name or "PLAINTEXT" in name for name in environment):
        environment |= LAPTOP
    return config.load(BakerySettings, "bakery", environment)


def mistakes(**environment: str) -> list[str]:
    with pytest.raises(SettingsRefused) as refused:
        loaded(**environment)
    return refused.value.mistakes


def test_the_defaults_work_on_a_laptop() -> None:
    settings = loaded()
    assert settings.service == "bakery"
    assert settings.grpc_host == settings.operations_host == "127.0.0.1"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        loaded().grpc_port = 1  # type: ignore[misc]


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "bodega.yaml"
    file.write_text(
        "bakery: {grpc_port: 1, log_level: debug, oven: {heat: 200, fan: true}}\norder: {grpc_port: 9}\n"
    )
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "bodega_bakery__request_digest_secret").write_text("hush\n")
    settings = loaded(
        BODEGA_CONFIG=str(file),
        BODEGA_SECRETS_DIR=str(secrets),
        BODEGA_BAKERY__GRPC_PORT="2",
        BODEGA_BAKERY__OVEN__HEAT="220",
        BODEGA_BAKERY__BREADS='["wheat", "spelt"]',
        BODEGA_BAKERY__REQUEST_DIGEST_SECRET="loud",
        BODEGA_ORDER__GRPC_PORT="3",
    )
    assert settings.grpc_port == 2
    assert settings.log_level == "debug"
    assert settings.oven == Oven(heat=220, fan=True)
    assert settings.breads == ("wheat", "spelt")
    assert settings.request_digest_secret.get_secret_value() == "hush"


def test_every_mistake_is_reported_at_once_without_values(tmp_path: Path) -> None:
    file = tmp_path / "bodega.yaml"
    file.write_text("bakery: {colour: pink}\n")
    found = mistakes(
        BODEGA_CONFIG=str(file),
        BODEGA_SECRETS_DIR=str(tmp_path / "absent"),
        BODEGA_BAKERY__GRPC_PORT="hunter2",
        BODEGA_BAKERY__OPERATIONS_PORT="70000",
        BODEGA_BAKERY__GPRC_PORT="1",
        BODEGA_BAKERY__OVEN__HEAT="hunter3",
    )
    text = "\n".join(found)
    for word in (
        "BODEGA_BAKERY__GRPC_PORT",
        "OPERATIONS_PORT",
        "GPRC_PORT",
        "OVEN__HEAT",
        "colour",
        "absent",
    ):
        assert word in text
    assert len(found) == 6
    assert "hunter" not in text


@pytest.mark.parametrize("content", ["bakery: [", "bakery: 7", "- a", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "bodega.yaml"
    file.write_text(content)
    assert "bodega.yaml" in mistakes(BODEGA_CONFIG=str(file))[0]


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    assert "absent.yaml" in mistakes(BODEGA_CONFIG=str(tmp_path / "absent.yaml"))[0]


def test_a_value_that_is_no_json_where_json_is_due_is_refused() -> None:
    assert "breads" in mistakes(BODEGA_BAKERY__BREADS="[wheat")[0]


def test_production_wants_a_secret_of_its_own() -> None:
    assert mistakes(**TLS, BODEGA_BAKERY__PRODUCTION="true") == [
        "request_digest_secret must be set in production"
    ]
    own = {**TLS, "BODEGA_BAKERY__REQUEST_DIGEST_SECRET": "own"}
    assert loaded(**own, BODEGA_BAKERY__PRODUCTION="true").production


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"GUESTS_PLAINTEXT": "false"}, "tls must be set"),
        ({"GUESTS_PLAINTEXT": "true", "GRPC_HOST": "10.0.0.1"}, "for a loopback grpc_host"),
        ({"GUESTS_PLAINTEXT": "true", "GRPC_HOST": "bakery.example"}, "for a loopback grpc_host"),
        ({"GUESTS_PLAINTEXT": "true", "PRODUCTION": "true"}, "refused in production"),
        ({"TLS__CERTIFICATE": "bakery.pem"}, "tls__authorities"),
    ],
)
def test_plaintext_is_for_laptops_that_ask_for_it(told: dict[str, str], why: str) -> None:
    assert why in "\n".join(mistakes(**{f"BODEGA_BAKERY__{name}": value for name, value in told.items()}))


def test_dangers_are_told_at_once() -> None:
    [told] = mistakes(**LAPTOP, BODEGA_BAKERY__PRODUCTION="true", BODEGA_BAKERY__GRPC_HOST="10.0.0.1")
    assert len(told.split("; ")) == 3


def test_a_program_with_mistakes_ends_with_code_2_and_a_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BODEGA_BAKERY__GRPC_PORT", "x")
    monkeypatch.setenv("BODEGA_BAKERY__LOG_LEVEL", "shout")
    with pytest.raises(SystemExit) as ended:
        config.load_or_exit(BakerySettings, "bakery")
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("bakery: ") for line in lines)


def test_made_directly_it_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_PORT", "9")
    monkeypatch.setenv("BODEGA_BAKERY__GRPC_PORT", "9")
    assert BakerySettings(service="bakery", guests_plaintext=True).grpc_port == 0
