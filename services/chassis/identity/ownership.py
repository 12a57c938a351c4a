"""Whose it is: the part of access that is known only after the thing addressed was loaded."""

from services.chassis import context
from services.kernel import errors


def must_own(owner_id: str, absent: errors.NotFound) -> None:
    """Raises `absent`, as if there were no such thing, unless the caller may see what this user owns.

    Every handler of a method whose contract says `owner_of_resource` asks this before it answers or changes
    anything; the onion refuses the reply of one that did not.
    """
    request = context.current()
    if request is None or not request.must_own:
        return  # the contract lets this caller at everyone's, or nobody called
    if not owner_id or owner_id.lower() != request.caller.user_id:
        raise absent
    request.must_own = False
