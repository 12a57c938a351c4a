import pytest

from services.user.sealing import Seal, SealBroken


def test_what_was_sealed_opens_again_and_cannot_be_read_meanwhile() -> None:
    seal = Seal(b"secret", "tests")
    sealed = seal.close(b"content", about="x")
    assert b"content" not in sealed
    assert seal.open(sealed, about="x") == b"content"
    assert seal.close(b"content", about="x") != sealed


@pytest.mark.parametrize(
    ("secret", "purpose", "about", "cut"),
    [
        (b"other", "tests", "x", None),
        (b"secret", "other", "x", None),
        (b"secret", "tests", "y", None),
        (b"secret", "tests", "x", -1),
        (b"secret", "tests", "x", 3),
        (b"secret", "tests", "x", 0),
    ],
)
def test_nothing_else_opens_it(secret: bytes, purpose: str, about: str, cut: int | None) -> None:
    sealed = Seal(b"secret", "tests").close(b"content", about="x")
    with pytest.raises(SealBroken):
        Seal(secret, purpose).open(sealed[:cut], about=about)


def test_a_seal_is_named_after_its_secret() -> None:
    assert Seal(b"secret", "tests").name == Seal(b"secret", "tests").name != Seal(b"other", "tests").name
