"""One name in the spellings that code, contracts and subjects have for it."""

import re

_BETWEEN_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """`OrderPlaced` as `order_placed`, `SKUTaken` as `sku_taken`."""
    return _BETWEEN_WORDS.sub("_", name).lower()
