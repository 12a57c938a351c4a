"""What can be wrong with a request, in categories that know no transport.

A concrete error is one class: its name is the reason, its docstring the message, its keyword arguments
the metadata, so that the three cannot disagree::

    class OrderNotCancellable(WrongState):
        '''Order {order_id} is {state}; only a pending or confirmed order can be cancelled.'''

    raise OrderNotCancellable(order_id=order.id, state=order.state)

The rule of the house: raise means that nothing happened; return means that it happened, even if the
answer is no.
"""

import inspect
from typing import ClassVar

from services.kernel.names import snake_case


class DomainError(Exception):
    """Something about the request was refused."""

    reason: ClassVar[str] = "DOMAIN_ERROR"
    """UPPER_SNAKE_CASE of the class name; what clients branch on (`google.rpc.ErrorInfo.reason`)."""

    definite: ClassVar[bool] = True
    """Whether the same request would be refused again; only then is it remembered under a request id."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.reason = snake_case(cls.__name__).upper()

    def __init__(self, **metadata: object) -> None:
        self.metadata = {name: str(value) for name, value in metadata.items()}
        template = " ".join(inspect.cleandoc(type(self).__doc__ or "").split())
        self.message = template.format_map(self.metadata)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.metadata)


def _rebuild(cls: type[DomainError], metadata: dict[str, str]) -> DomainError:
    return cls(**metadata)


class Invalid(DomainError):
    """The request is malformed, whatever the state of the shop."""

    field: ClassVar[str] = ""
    """Path of the request field at fault, where there is one."""


class NotFound(DomainError):
    """What was addressed does not exist, or not for this caller."""


class AlreadyExists(DomainError):
    """What was to be created is there already."""


class WrongState(DomainError):
    """The thing addressed is in a state that does not allow this."""


class Forbidden(DomainError):
    """The caller may not do this."""


class Unauthenticated(DomainError):
    """The caller did not say who they are, or not convincingly."""


class Stale(DomainError):
    """Someone else changed it first; read it again and decide anew."""

    definite = False


class TooMuch(DomainError):
    """More than a limit allows; later, or less of it, may do."""

    definite = False

    retry_after_s: float = 1.0
    """When it makes sense to ask again, in seconds: of a kind, or of one error."""


class Unavailable(DomainError):
    """Not now; the same request may succeed later."""

    definite = False

    retry_after_s: float = 0.1
    """As of `TooMuch`."""


class Busy(Unavailable):
    """More of this is asked for than can be done. Nothing is broken; what there is room for is done."""
