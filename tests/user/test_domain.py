from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.kernel.errors import DomainError
from services.user import domain
from services.user.domain import Details, Profile, State, User

AT = datetime(2026, 1, 1, tzinfo=UTC)
LATER = AT + timedelta(hours=1)
ADA = Details("Ada@Example.com", "Ada", Profile("Ada Lovelace", "+441234567890", "en"))


def account(state: State = State.ACTIVE, **changes: Any) -> User:
    reason = "fraud" if state is State.SUSPENDED else ""
    return User("u1", ADA, "hash", AT, AT, state=state, suspension_reason=reason, version=3, **changes)


def moves(user: User) -> dict[str, Any]:
    return {
        "activate": lambda: user.activate(at=LATER),
        "suspend": lambda: user.suspend(reason="late", at=LATER),
        "reinstate": lambda: user.reinstate(at=LATER),
        "deactivate": lambda: user.deactivate(at=LATER),
    }


INACTIVE, ACTIVE, SUSPENDED, DEACTIVATED = State


@pytest.mark.parametrize(
    ("move", "before", "after"),
    [
        ("activate", INACTIVE, ACTIVE),
        ("activate", ACTIVE, None),
        ("activate", SUSPENDED, domain.UserNotActivatable),
        ("activate", DEACTIVATED, domain.UserNotActivatable),
        ("suspend", INACTIVE, domain.UserNotSuspendable),
        ("suspend", ACTIVE, SUSPENDED),
        ("suspend", SUSPENDED, None),
        ("suspend", DEACTIVATED, domain.UserNotSuspendable),
        ("reinstate", INACTIVE, domain.UserNotReinstatable),
        ("reinstate", ACTIVE, None),
        ("reinstate", SUSPENDED, ACTIVE),
        ("reinstate", DEACTIVATED, domain.UserNotReinstatable),
        ("deactivate", INACTIVE, DEACTIVATED),
        ("deactivate", ACTIVE, DEACTIVATED),
        ("deactivate", SUSPENDED, DEACTIVATED),
        ("deactivate", DEACTIVATED, None),
    ],
)
def test_a_move_happens_or_changes_nothing_or_is_refused_aloud(
    move: str, before: State, after: State | type[DomainError] | None
) -> None:
    user = account(before)
    if isinstance(after, type):
        with pytest.raises(after) as refused:
            moves(user)[move]()
        assert refused.value.metadata == {"user_id": "u1", "state": str(before)}
        return
    moved = moves(user)[move]()
    if after is None:
        assert moved is user
        return
    assert moved.state is after
    assert moved.updated_at == LATER
    assert len(moved.pending_events) == 1


def test_a_new_account_is_inactive_and_a_customer() -> None:
    user = User.register(user_id="u1", details=ADA, password_hash="hash", at=AT)
    assert (user.state, user.roles, user.version) == (State.INACTIVE, (domain.Role.CUSTOMER,), 0)
    assert user.pending_events == (domain.Event("u1", AT, domain.Registered("Ada")),)


def test_only_a_suspended_account_has_a_reason() -> None:
    suspended = account().suspend(reason="fraud", at=LATER)
    assert suspended.suspension_reason == "fraud"
    assert suspended.suspend(reason="other", at=LATER).suspension_reason == "fraud"
    assert suspended.reinstate(at=LATER).suspension_reason == ""
    assert suspended.deactivate(at=LATER).suspension_reason == ""


def test_an_update_tells_which_fields_changed_and_never_their_values() -> None:
    new = Details("ada@example.org", "Ada", replace(ADA.profile, phone_number=""))
    updated = account().update(new, at=LATER)
    assert updated.details == new
    assert updated.pending_events == (
        domain.Event("u1", LATER, domain.Updated(("email", "profile.phone_number"))),
    )


def test_an_update_to_what_is_there_already_changes_nothing() -> None:
    user = account()
    assert user.update(ADA, at=LATER) is user


def test_an_ended_account_is_not_updated() -> None:
    with pytest.raises(domain.UserDeactivated):
        account(State.DEACTIVATED).update(replace(ADA, username="b"), at=LATER)


@pytest.mark.parametrize("etag", ["", "v3"])
def test_a_current_or_absent_etag_is_fine(etag: str) -> None:
    assert account().expect(etag).id == "u1"


def test_an_etag_of_the_past_is_stale() -> None:
    with pytest.raises(domain.StaleEtag):
        account().expect("v2")


def test_addresses_and_names_are_compared_without_case() -> None:
    other = Details("aDA@eXAMPLE.com", "aDA")
    assert (other.email_key, other.username_key) == (ADA.email_key, ADA.username_key)


def test_nothing_personal_is_in_the_repr() -> None:
    shown = repr(account())
    for secret in ("Example.com", "Lovelace", "+44", "hash'"):
        assert secret not in shown


def test_roles_stand_in_one_order_and_change_once() -> None:
    user = account().grant(domain.Role.ADMIN, at=LATER).grant(domain.Role.SUPPORT, at=LATER)
    assert user.roles == (domain.Role.CUSTOMER, domain.Role.SUPPORT, domain.Role.ADMIN)
    assert user.grant(domain.Role.ADMIN, at=LATER) is user
    fewer = user.revoke(domain.Role.CUSTOMER, at=LATER)
    assert fewer.roles == (domain.Role.SUPPORT, domain.Role.ADMIN)
    assert fewer.revoke(domain.Role.CUSTOMER, at=LATER) is fewer
    assert [event.fact for event in fewer.pending_events] == [
        domain.RoleGranted(domain.Role.ADMIN),
        domain.RoleGranted(domain.Role.SUPPORT),
        domain.RoleRevoked(domain.Role.CUSTOMER),
    ]


@pytest.mark.parametrize("state", [INACTIVE, SUSPENDED, DEACTIVATED])
def test_only_an_active_account_administers(state: State) -> None:
    trusted = (domain.Role.CUSTOMER, domain.Role.ADMIN)
    assert account(roles=trusted).administers
    assert not account(state, roles=trusted).administers
    assert not account().administers


@pytest.mark.parametrize(
    ("state", "facts"),
    [
        (INACTIVE, [domain.Updated, domain.Activated, domain.RoleGranted]),
        (ACTIVE, [domain.Updated, domain.RoleGranted]),
    ],
)
def test_an_account_taken_over_administers_with_another_password(
    state: State, facts: list[type[domain.Fact]]
) -> None:
    taken = account(state).take_over(password_hash="other", at=LATER)
    assert taken.administers
    assert taken.password_hash == "other"
    assert [type(event.fact) for event in taken.pending_events] == facts


@pytest.mark.parametrize("state", [SUSPENDED, DEACTIVATED])
def test_who_was_stopped_is_not_taken_over(state: State) -> None:
    with pytest.raises(domain.UserNotActivatable):
        account(state).take_over(password_hash="other", at=LATER)
