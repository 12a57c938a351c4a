"""Whose it is: the part of access that is known only after the thing addressed was loaded."""

from services.chassis import context
from services.kernel import errors


class OwnerNotAsked(AssertionError):
    """A handler is about to answer somebody without having asked whether the thing is theirs."""


def must_own(owner_id: str, absent: errors.NotFound) -> None:
    """Raises `absent`, as if there were no such thing, unless the caller may see what this user owns.

    Every handler of a method whose contract says `owner_of_resource` asks this before it answers; what one
    that forgets would do or say is neither committed nor sent.
    """
    request = context.current()
    if request is None or not request.must_own:
        return  # the contract lets this caller at everyone's, or nobody called
    if not owner_id or owner_id.lower() != request.caller.user_id:
        raise absent
    request.must_own = False


def vouch() -> None:
    """Raises OwnerNotAsked if it still depends on the owner whether the caller may have what is done here."""
    request = context.current()
    if request is not None and request.must_own:
        raise OwnerNotAsked


def answered_before() -> None:
    """What is given to the caller now was given to them before, and whatever it changed is on record."""
    request = context.current()
    if request is not None:
        request.must_own = False
        request.act = None
