from pathlib import Path

import pytest

from services.chassis.config import SettingsRefused, load
from services.notification.config import NotificationSettings

MAIL = {"SMTP_HOST": "mail.example", "MAIL_FROM": "shop@bodega.example"}


def loaded(**variables: str) -> NotificationSettings:
    said = {"GUESTS_PLAINTEXT": "true", **variables}
    environment = {f"BODEGA_NOTIFICATION__{name}": value for name, value in said.items()}
    return load(NotificationSettings, "notification", environment)


def test_without_a_mail_server_nothing_need_be_said() -> None:
    assert loaded().smtp_host == ""


@pytest.mark.parametrize(("security", "port"), [("none", 25), ("starttls", 587), ("tls", 465)])
def test_the_port_follows_the_security(security: str, port: int) -> None:
    assert loaded(**MAIL, SMTP_SECURITY=security).mail_port == port
    assert loaded(**MAIL, SMTP_SECURITY=security, SMTP_PORT="2525").mail_port == 2525


def test_letters_are_from_the_shop() -> None:
    sender = loaded(**MAIL, MAIL_FROM_NAME="Zoë's, Ltd.").mail_sender
    assert (sender.display_name, sender.addr_spec) == ("Zoë's, Ltd.", "shop@bodega.example")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"MAIL_FROM": ""}, "mail_from"),
        ({"MAIL_FROM": "bodega"}, "mail_from"),
        ({"MAIL_FROM": "shop@bodega.example\nBcc: eve@example.com"}, "mail_from"),
        ({"MAIL_FROM": "shöp@bodega.example"}, "mail_from"),
        ({"MAIL_FROM_NAME": "Bodega\nBcc: eve@example.com"}, "mail_from_name"),
        ({"SMTP_USERNAME": "shop"}, "go together"),
        ({"SMTP_PASSWORD": "hunter2"}, "go together"),
        ({"SMTP_USERNAME": "shop", "SMTP_PASSWORD": "hunter2", "SMTP_SECURITY": "none"}, "in clear"),
        ({"SMTP_SECURITY": "ssl"}, "smtp_security"),
        ({"SMTP_CA_FILE": "/nowhere/ca.pem"}, "smtp_ca_file"),
        ({"SMTP_TIMEOUT_S": "0"}, "smtp_timeout_s"),
        ({"ACTIVATION_PAGE": "shop.example/activate"}, "activation_page"),
        ({"ACTIVATION_PAGE": "ftp://shop.example/activate"}, "activation_page"),
        ({"ACTIVATION_PAGE": "https://"}, "activation_page"),
        ({"ACTIVATION_PAGE": "https://shop.example/activate#here"}, "activation_page"),
        ({"ACTIVATION_PAGE": "http://shop.example/activate"}, "in clear"),
        ({"ACTIVATION_PAGE": "https://[shop/activate"}, "activation_page"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(wrong: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        loaded(**(MAIL | wrong))
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_on_this_machine_a_password_may_travel_in_clear() -> None:
    secrets = {"SMTP_USERNAME": "shop", "SMTP_PASSWORD": "hunter2", "SMTP_SECURITY": "none"}
    for host in ("localhost", "127.0.0.1", "::1"):
        settings = loaded(**MAIL | secrets | {"SMTP_HOST": host})
        assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    "page", ["https://shop.example/activate?from=mail", "http://127.0.0.1:8080/activate"]
)
def test_an_activation_page_is_read_by_nobody_else(page: str) -> None:
    assert loaded(ACTIVATION_PAGE=page).activation_page == page


def test_a_password_may_come_as_a_file(tmp_path: Path) -> None:
    for name in ("username", "password"):
        (tmp_path / f"bodega_notification__smtp_{name}").write_text("hunter2")
    said = {"GUESTS_PLAINTEXT": "true", **MAIL}
    environment = {f"BODEGA_NOTIFICATION__{name}": value for name, value in said.items()}
    settings = load(NotificationSettings, "notification", environment | {"BODEGA_SECRETS_DIR": str(tmp_path)})
    assert settings.smtp_password is not None
    assert settings.smtp_password.get_secret_value() == "hunter2"
