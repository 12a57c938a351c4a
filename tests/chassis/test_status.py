import pickle

import grpc
import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from hypothesis import example, given
from hypothesis import strategies as st

from services.chassis import status
from services.chassis.status import FieldViolation, InvalidRequest, Refused, TooLate
from services.kernel import errors


class BadColour(errors.Invalid):
    """There is no colour {colour}."""

    field = "paint.colour"


class Plain(errors.Invalid):
    """Something is wrong."""


class DoorClosed(errors.WrongState):
    """Door {door} is {state}."""


class Later(errors.Unavailable):
    """Not now."""

    retry_after_s = 2.5


class QueueFull(errors.Busy):
    """There are {waiting} already."""


class Gone(TooLate):
    """Too late."""


def one_of(category: type[errors.DomainError]) -> errors.DomainError:
    made: errors.DomainError = type("Some", (category,), {"__doc__": "Some words."})()
    return made


@pytest.mark.parametrize(
    ("category", "code"),
    [
        (errors.Invalid, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotFound, grpc.StatusCode.NOT_FOUND),
        (errors.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
        (errors.WrongState, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.Stale, grpc.StatusCode.ABORTED),
        (errors.Forbidden, grpc.StatusCode.PERMISSION_DENIED),
        (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
        (errors.TooMuch, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Unavailable, grpc.StatusCode.UNAVAILABLE),
        (errors.Busy, grpc.StatusCode.UNAVAILABLE),
        (TooLate, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_every_category_has_its_code(category: type[errors.DomainError], code: grpc.StatusCode) -> None:
    made = status.from_error(one_of(category))
    assert status.code_of(made) is code
    assert status.reason(made) == "SOME"


@pytest.mark.parametrize("category", [errors.Stale, errors.TooMuch, errors.Unavailable])
def test_passing_refusals_say_when_to_try_again(category: type[errors.DomainError]) -> None:
    assert (status.retry_after_s(status.from_error(one_of(category))) or 0) > 0


def test_definite_refusals_do_not() -> None:
    assert status.retry_after_s(status.from_error(one_of(errors.NotFound))) is None


def test_an_error_chooses_its_own_delay() -> None:
    assert status.retry_after_s(status.from_error(Later())) == 2.5


def test_a_field_at_fault_is_named() -> None:
    made = status.from_error(BadColour(colour="loud"))
    found = status.detail(made, error_details_pb2.BadRequest)
    assert found is not None
    assert [(v.field, v.reason, v.description) for v in found.field_violations] == [
        ("paint.colour", "BAD_COLOUR", "There is no colour loud.")
    ]
    assert status.detail(status.from_error(Plain()), error_details_pb2.BadRequest) is None


def test_a_wrong_state_names_its_subject() -> None:
    made = status.from_error(DoorClosed(door="d-1", state="LOCKED"))
    found = status.detail(made, error_details_pb2.PreconditionFailure)
    assert found is not None
    assert (found.violations[0].type, found.violations[0].subject) == ("DOOR_CLOSED", "d-1")


@example("😀" * 300, ["😀" * 300] * 50)  # four bytes each, nine to twelve once percent-encoded
@given(st.text(max_size=20_000), st.lists(st.text(max_size=5000), max_size=50))
def test_statuses_fit_into_trailers_whatever_clients_sent(text: str, fields: list[str]) -> None:
    door = status.from_error(DoorClosed(door=text, state=text))
    request = status.from_error(
        InvalidRequest([FieldViolation(field, "string.max_len", field) for field in fields])
    )
    for made, reason in ((door, "DOOR_CLOSED"), (request, "INVALID_REQUEST")):
        assert made.ByteSize() <= status.STATUS_BYTES_MAX
        assert status.reason(made) == reason
        assert len(made.message) <= status.MESSAGE_CHARS_MAX


def test_a_status_survives_the_wire() -> None:
    sent = status.from_error(DoorClosed(door="d-1", state="LOCKED"))
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.aio.Metadata(),
        grpc.aio.Metadata.from_tuple(status.trailers(sent)),
        sent.message,
    )
    assert status.parse(error) == sent
    assert status.reason(error) == "DOOR_CLOSED"
    assert status.metadata(error) == {"door": "d-1", "state": "LOCKED"}


@pytest.mark.parametrize(
    "error",
    [
        ValueError("not of grpc"),
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata()),
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, None, None),
        grpc.aio.AioRpcError(
            grpc.StatusCode.UNKNOWN,
            grpc.aio.Metadata(),
            grpc.aio.Metadata((status.METADATA_KEY, b"\xff\xff")),
        ),
    ],
)
def test_errors_without_a_status_have_no_reason(error: Exception) -> None:
    assert status.parse(error) is None
    assert status.reason(error) is None
    assert status.metadata(error) == {}
    assert status.details(error) == []
    assert status.retry_after_s(error) is None


def test_a_refusal_is_its_status() -> None:
    refused = Refused(status.from_error(Gone()))
    assert (refused.code, refused.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "GONE")


def test_an_unknown_code_from_elsewhere_is_unknown() -> None:
    assert status.code_of(Status(code=99)) is grpc.StatusCode.UNKNOWN


def test_violations_survive_pickling() -> None:
    error = InvalidRequest([FieldViolation("a", "r", "d")])
    assert pickle.loads(pickle.dumps(error)).violations == error.violations  # noqa: S301


def test_who_is_busy_says_so_among_the_figures() -> None:
    assert status.is_busy(status.from_error(QueueFull(waiting=16)))
    assert status.metadata(status.from_error(QueueFull(waiting=16)))["waiting"] == "16"
    assert not status.is_busy(status.from_error(Later()))
