"""`bodega demo`."""


def demo() -> None:
    """Later."""
