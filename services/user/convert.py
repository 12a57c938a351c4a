"""Contract ⇄ domain, pure."""

from datetime import datetime
from typing import Final

from bodega.policy.v1 import policy_pb2
from bodega.user.v1 import user_pb2 as pb
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis import masks
from services.chassis.status import FieldViolation, InvalidRequest
from services.user.domain import Details, Profile, Role, State, User

MUTABLE: Final = (
    "email",
    "username",
    "profile.display_name",
    "profile.phone_number",
    "profile.language_code",
)
"""What UpdateUser may change."""

_STATES: Final = {
    State.INACTIVE: pb.User.STATE_INACTIVE,
    State.ACTIVE: pb.User.STATE_ACTIVE,
    State.SUSPENDED: pb.User.STATE_SUSPENDED,
    State.DEACTIVATED: pb.User.STATE_DEACTIVATED,
}
_STATES_BACK: Final = {number: state for state, number in _STATES.items()}
_ROLES: Final = {
    Role.CUSTOMER: policy_pb2.ROLE_CUSTOMER,
    Role.SUPPORT: policy_pb2.ROLE_SUPPORT,
    Role.WAREHOUSE: policy_pb2.ROLE_WAREHOUSE,
    Role.ADMIN: policy_pb2.ROLE_ADMIN,
}
_ROLES_BACK: Final = {number: role for role, number in _ROLES.items()}


def registered_details(request: pb.RegisterUserRequest) -> Details:
    return Details(request.email, request.username, _profile(request.profile))


def administrator_details(request: pb.CreateAdministratorRequest) -> Details:
    return Details(request.email, request.username)


def updated_details(user: User, wanted: pb.User, mask: FieldMask) -> Details:
    """The account's details with the masked ones as wanted.

    Raises masks.InvalidMask, and InvalidRequest naming each field that cannot be without a value.
    """
    made = masks.updated(_mutable_part(user.details), wanted, mask, MUTABLE)
    violations = [
        FieldViolation(f"user.{name}", "required", f"an account cannot be without {name}")
        for name in ("email", "username")
        if not getattr(made, name)
    ]
    if violations:
        raise InvalidRequest(violations)
    return Details(made.email, made.username, _profile(made.profile))


def user_to_proto(user: User) -> pb.User:
    made = _mutable_part(user.details)
    made.user_id = user.id
    made.state = _STATES[user.state]
    made.roles.extend(_ROLES[role] for role in user.roles)
    made.create_time.CopyFrom(_timestamp(user.created_at))
    made.update_time.CopyFrom(_timestamp(user.updated_at))
    made.etag = user.etag
    made.suspension_reason = user.suspension_reason
    return made


def preferences_to_proto(user: User) -> pb.Preferences:
    since = user.preferences.marketing_since
    return pb.Preferences(
        user_id=user.id,
        marketing_opt_in=since is not None,
        marketing_opt_in_time=_timestamp(since) if since else None,
        etag=user.etag,
    )


def with_personal_data(reply: pb.User, user: User) -> pb.User:
    """A remembered reply with what is never remembered: the `debug_redact` fields, as they are now."""
    made = pb.User()
    made.CopyFrom(reply)
    made.email = user.details.email
    made.profile.display_name = user.details.profile.display_name
    made.profile.phone_number = user.details.profile.phone_number
    return made


def state_from_proto(state: pb.User.State.ValueType) -> State | None:
    """None for "in any state"."""
    return _STATES_BACK.get(state)


def role_to_proto(role: Role) -> policy_pb2.Role.ValueType:
    return _ROLES[role]


def role_from_proto(role: policy_pb2.Role.ValueType) -> Role:
    """Of a role that validation has let through."""
    return _ROLES_BACK[role]


def _mutable_part(details: Details) -> pb.User:
    return pb.User(
        email=details.email,
        username=details.username,
        profile=pb.Profile(
            display_name=details.profile.display_name,
            phone_number=details.profile.phone_number,
            language_code=details.profile.language_code,
        ),
    )


def _profile(profile: pb.Profile) -> Profile:
    return Profile(profile.display_name, profile.phone_number, profile.language_code)


def _timestamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made
