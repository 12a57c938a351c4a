import grpc
import pytest

from services.chassis import fault, status
from services.chassis.fault import FailpointsRefused, Fault, Kind, Place, PlayedFault
from services.kernel.errors import DomainError, Stale, TooMuch, Unavailable


@pytest.mark.parametrize(
    "text",
    ["a.b=exit", "a.b=hang", "a.b=drop-reply", "a.b[Get]=delay(0.5)", "a.b=error(UNAVAILABLE)",
     "a.b=exit@2", "a.b=error(INTERNAL)*3", "a.b=error(ABORTED)%1", "a.b[Get]=hang%100"],
)  # fmt: skip
def test_what_is_written_is_understood_and_written_again(text: str) -> None:
    ((place, found),) = fault.parse(text).items()
    assert f"{place}={found}" == text


def test_clauses_are_separated_and_may_have_room() -> None:
    assert fault.parse(" a.b=exit ; ; c[Get]=hang@2;") == {
        Place("a.b"): Fault(Kind.EXIT),
        Place("c", "Get"): Fault(Kind.HANG, at_visit=2),
    }


@pytest.mark.parametrize(
    "text",
    ["a.b", "a.b=explode", "a.b=delay", "a.b=delay(-1)", "a.b=delay(61)", "=exit", "a.b=exit@0", "a.b=exit*0",
     "a.b=exit%0", "a.b=exit%101", "a.b=exit@1*2", "a.b=error", "a.b=error()", "a.b=error(unavailable)"],
)  # fmt: skip
def test_what_is_unclear_is_refused(text: str) -> None:
    with pytest.raises(FailpointsRefused):
        fault.parse(text)


@pytest.mark.parametrize("code", ["OK", "NOT_FOUND", "FAILED_PRECONDITION", "PERMISSION_DENIED", "NONSENSE"])
def test_the_weather_refuses_nothing(code: str) -> None:
    with pytest.raises(FailpointsRefused, match="UNAVAILABLE, DEADLINE_EXCEEDED"):
        fault.parse(f"a.b=error({code})")


@pytest.mark.parametrize(
    ("when", "due"),
    [("", [1, 2, 3, 4]), ("@3", [3]), ("*2", [1, 2]), ("%100", [1, 2, 3, 4]), ("%1", [])],
)
def test_which_visits_are_meant(when: str, due: list[int]) -> None:
    (found,) = fault.parse(f"a.b=exit{when}").values()
    assert [visit for visit in range(1, 5) if found.is_due(visit, chance=0.5)] == due


@pytest.mark.parametrize("chance", [0.0, 0.299, 0.3, 0.999])
def test_a_percentage_is_of_all_visits(chance: float) -> None:
    assert Fault(Kind.EXIT, percent=30).is_due(1, chance) is (chance < 0.3)


@pytest.mark.parametrize(
    ("code", "category"),
    [("UNAVAILABLE", Unavailable), ("DEADLINE_EXCEEDED", status.TooLate), ("RESOURCE_EXHAUSTED", TooMuch),
     ("ABORTED", Stale)],
)  # fmt: skip
def test_an_error_is_the_weather_of_its_code(code: str, category: type[DomainError]) -> None:
    error = Fault(Kind.ERROR, code=code).error("a.b")
    assert isinstance(error, PlayedFault)
    assert isinstance(error, category)
    assert (status.code(error), error.code) == (grpc.StatusCode[code], grpc.StatusCode[code])
    assert not error.definite  # nothing played is remembered as an answer
    assert error.metadata == {"site": "a.b"}


def test_internal_is_a_bug() -> None:
    assert not isinstance(Fault(Kind.ERROR, code="INTERNAL").error("a.b"), DomainError)


@pytest.mark.parametrize("kind", [Kind.EXIT, Kind.DELAY, Kind.HANG])
def test_other_kinds_raise_nothing(kind: Kind) -> None:
    assert Fault(kind).error("a.b") is None
