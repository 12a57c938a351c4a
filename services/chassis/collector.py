"""Python's garbage collector, told what not to look through."""

import gc


def spare() -> None:
    """For programs, once they serve: what was imported and put together stays for good.

    A hundred thousand objects of the libraries are 60 ms in which no call is answered, and 4 % of the CPU
    time of small calls.
    """
    gc.collect()
    gc.freeze()
