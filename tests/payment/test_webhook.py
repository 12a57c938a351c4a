"""Signatures of webhooks, as the standard has them."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from services.payment.config import LAPTOP_WEBHOOK_SECRET, PaymentSettings
from services.payment.webhook import Signed, is_signed, key, sign

# The example that the standard's libraries are tested with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
AT = datetime.fromtimestamp(1614265330, UTC)
SIGNED = Signed(
    "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)


def test_the_standard_s_example() -> None:
    assert sign(key(SECRET), id=SIGNED.id, at=AT, body=BODY) == SIGNED
    assert is_signed(key(SECRET), SIGNED, BODY, now=AT)


def signed_by(signature: str) -> Signed:
    return Signed(SIGNED.id, SIGNED.timestamp, signature)


def test_one_right_signature_among_several_is_enough() -> None:
    several = signed_by(f"v1,b3RoZXI= v1a,b3RoZXI= {SIGNED.signature}")
    assert is_signed(key(SECRET), several, BODY, now=AT)


@pytest.mark.parametrize(
    ("signed", "body"),
    [
        (SIGNED, BODY + b" "),
        (Signed("msg_other", SIGNED.timestamp, SIGNED.signature), BODY),
        (Signed(SIGNED.id, "1614265331", SIGNED.signature), BODY),
        (signed_by(SIGNED.signature.removeprefix("v1,")), BODY),
        (signed_by(SIGNED.signature.replace("v1,", "v2,")), BODY),
        (signed_by(SIGNED.signature[:-4]), BODY),
        (signed_by("v1,"), BODY),
        (signed_by("v1,\u00fc"), BODY),
        (signed_by(""), BODY),
        (Signed(), BODY),
        (Signed(SIGNED.id, "", SIGNED.signature), BODY),
        (Signed(SIGNED.id, "1614265330.0", SIGNED.signature), BODY),
        (Signed(SIGNED.id, "-1614265330", SIGNED.signature), BODY),
        (Signed(SIGNED.id, "9" * 400, SIGNED.signature), BODY),
        (Signed("", SIGNED.timestamp, SIGNED.signature), BODY),
        (Signed("m" * 256, SIGNED.timestamp, SIGNED.signature), BODY),
    ],
)
def test_what_is_not_signed(signed: Signed, body: bytes) -> None:
    assert not is_signed(key(SECRET), signed, body, now=AT)


def test_another_secret_signs_otherwise() -> None:
    assert not is_signed(b"other", SIGNED, BODY, now=AT)


@pytest.mark.parametrize(("seconds", "is_of_now"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_signatures_are_good_for_five_minutes(seconds: int, is_of_now: bool) -> None:  # noqa: FBT001
    assert is_signed(key(SECRET), SIGNED, BODY, now=AT + timedelta(seconds=seconds)) == is_of_now


def test_headers_come_from_metadata() -> None:
    assert Signed.of([("user-agent", "x"), ("some-bin", b"y"), *SIGNED.as_metadata()]) == SIGNED
    assert Signed.of([]) == Signed()


@pytest.mark.parametrize("secret", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%%%"])
def test_secrets_that_are_none(secret: str) -> None:
    with pytest.raises(ValueError, match="must"):
        key(secret)
    with pytest.raises(ValidationError) as refused:
        PaymentSettings(
            service="payment", guests_plaintext=True, provider_database_url="sqlite://", webhook_secret=secret
        )
    assert "webhook_secret" in str(refused.value)


def test_production_has_a_secret_of_its_own() -> None:
    assert key(LAPTOP_WEBHOOK_SECRET).startswith(b"not a secret")
    settings = {
        "service": "payment",
        "provider_database_url": "sqlite://",
        "tls": {"certificate": "payment.pem", "authorities": "authorities.pem"},
        "production": True,
        "request_digest_secret": "of production",
    }
    with pytest.raises(ValidationError, match="webhook_secret must be set"):
        PaymentSettings.model_validate(settings)
    own = "whsec_" + base64.b64encode(b"of production").decode()
    assert PaymentSettings.model_validate(settings | {"webhook_secret": own}).production
