"""`bodega verify`."""


def verify() -> None:
    """Later."""
