"""What facts are called in the languages people are written to in. Pure.

A language is a module with a `LANGUAGE`. Whoever asks for one that is not here, or for a text it does not
have, gets the shop's own: never nothing.
"""

from collections.abc import Mapping
from typing import Final

from services.notification.wording import english, german
from services.notification.wording.language import Language

ACTIVATION_LINK: Final = "activation_link"
"""The particular that no fact says and no row keeps: it is only there while a welcome is sent."""

SHOP: Final = english.LANGUAGE
"""The shop's own language: has a text for every fact that is told."""

LANGUAGES: Final[Mapping[str, Language]] = {
    language.code: language for language in (english.LANGUAGE, german.LANGUAGE)
}


def spoken(code: str) -> Language:
    """The language for a BCP 47 tag, e.g. `de-AT`: looked up as RFC 4647, 3.4 has it, else the shop's."""
    tag = code.lower()
    while tag:
        if tag in LANGUAGES:
            return LANGUAGES[tag]
        tag = tag.rpartition("-")[0]
    return SHOP
