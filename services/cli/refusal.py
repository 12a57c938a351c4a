"""What a command says when it cannot even begin."""

from typing import Final

EXIT_CODE: Final = 2
"""Nothing was done, and why stands in one line on standard error."""


class Refused(Exception):
    """The command cannot begin; the message is one clear line for people."""
