"""What a shop did that it promised not to do."""


class Surprise(Exception):
    """The shop did not do as it promises; the message says in one line what it did."""
