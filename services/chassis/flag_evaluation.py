"""What OpenFeature says of a flag. Imported when a file says more than the defaults: it weighs something.

The provider is flagd's evaluator, given whole files by `flags`, instead of flagd's own provider in file mode:
that one has a thread look every half second, says each time what is wrong, never sees an older file put
back, takes any value for any flag, and brings its clients of the daemon with it.
"""

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from openfeature import api
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode, FlagNotFoundError, OpenFeatureError
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagResolutionDetails, FlagValueType
from openfeature.provider import AbstractProvider, Metadata

from services.chassis.flags import Flag, Unusable

T = TypeVar("T", bound=str | bool)

Context = EvaluationContext | None
Structure = Sequence[FlagValueType] | Mapping[str, FlagValueType]

_SOMEBODY: Final = "00000000-0000-0000-0000-000000000000"
_NUMBERS: Final = itertools.count(1)


class Evaluation:
    """Flags as one file has them."""

    def __init__(self) -> None:
        domain = f"flags {next(_NUMBERS)}"  # tests have many programs in one
        self._file = File()
        api.set_provider_and_wait(self._file, domain)
        self._client = api.get_client(domain)

    def replace(self, text: str, flags: Iterable[Flag[Any]]) -> None:
        """Evaluates by this file from now on. Raises Unusable, and then by the one before."""
        core = FlagdCore()
        try:
            core.set_flags(text)
            for flag in flags:
                _try(core, flag)
        except OpenFeatureError as error:
            raise Unusable(error.error_message or type(error).__name__) from None
        except Exception as error:  # noqa: BLE001 (whatever a rule makes it stumble over)
            raise Unusable(type(error).__name__) from None
        self._file.core = core

    def of(self, flag: Flag[T], targeting_key: str, attributes: Mapping[str, str]) -> tuple[T, str]:
        """The flag's value; with what is wrong, if that is its default for want of another."""
        context = EvaluationContext(targeting_key, attributes)
        if isinstance(flag.default, bool):
            found: Any = self._client.get_boolean_details(flag.name, flag.default, context)
        else:
            found = self._client.get_string_details(flag.name, str(flag.default), context)
        value = flag.read(found.value)
        return (flag.default, f"it is {found.value!r}") if value is None else (value, _problem(found))


class File(AbstractProvider):
    """Answers OpenFeature from a file that was read."""

    def __init__(self) -> None:
        super().__init__()
        self.core = FlagdCore()

    def get_metadata(self) -> Metadata:
        return Metadata("flags file")

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001
        evaluation_context: Context = None,
    ) -> FlagResolutionDetails[bool]:
        return self.core.resolve_boolean_value(flag_key, default_value, evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: Context = None
    ) -> FlagResolutionDetails[str]:
        return self.core.resolve_string_value(flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: Context = None
    ) -> FlagResolutionDetails[int]:
        return self.core.resolve_integer_value(flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: Context = None
    ) -> FlagResolutionDetails[float]:
        return self.core.resolve_float_value(flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self, flag_key: str, default_value: Structure, evaluation_context: Context = None
    ) -> FlagResolutionDetails[Structure]:
        return self.core.resolve_object_value(flag_key, default_value, evaluation_context)


def _try(core: FlagdCore, flag: Flag[Any]) -> None:
    """Evaluates it for nobody in particular. Raises whatever comes of a rule that makes no sense."""
    resolve = core.resolve_boolean_value if isinstance(flag.default, bool) else core.resolve_string_value
    with contextlib.suppress(FlagNotFoundError):  # its default holds
        resolve(flag.name, flag.default, EvaluationContext(_SOMEBODY))


def _problem(found: FlagEvaluationDetails[Any]) -> str:
    if found.error_code in (None, ErrorCode.FLAG_NOT_FOUND):
        return ""
    return found.error_message or str(found.error_code)
