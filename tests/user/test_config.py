import pytest

from services.chassis.config import SettingsRefused, load
from services.user.config import UserSettings

LAPTOP = {"BODEGA_USER__GUESTS_PLAINTEXT": "true"}


def mistakes(**environment: str) -> list[str]:
    with pytest.raises(SettingsRefused) as refused:
        load(UserSettings, "user", {**LAPTOP, **environment})
    return refused.value.mistakes


def test_production_wants_a_secret_of_its_own() -> None:
    refusal = "signing_key_secret must be set in production"
    assert refusal in "".join(mistakes(BODEGA_USER__PRODUCTION="true"))
    others = mistakes(BODEGA_USER__PRODUCTION="true", BODEGA_USER__SIGNING_KEY_SECRET="own")
    assert refusal not in "".join(others)


def test_a_secret_is_not_shown() -> None:
    assert "mine" not in repr(
        load(UserSettings, "user", {**LAPTOP, "BODEGA_USER__SIGNING_KEY_SECRET": "mine"})
    )


def test_a_key_cannot_be_announced_before_the_one_before_it_signs() -> None:
    assert mistakes(BODEGA_USER__SIGNING_KEY_PERIOD_S="60", BODEGA_USER__SIGNING_KEY_LEAD_S="61") == [
        "signing_key_lead_s must not be longer than signing_key_period_s"
    ]


@pytest.mark.parametrize("setting", ["SIGNING_KEY_PERIOD_S", "SIGNING_KEY_LEAD_S"])
def test_keys_last_for_some_time(setting: str) -> None:
    assert len(mistakes(**{f"BODEGA_USER__{setting}": "0"})) == 1
