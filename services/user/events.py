"""What happened here, as the messages the others read. Pure."""

from bodega.user.v1 import user_events_pb2 as pb
from google.protobuf.message import Message

from services.user import api_keys, convert, domain


def to_message(event: domain.Event) -> Message:
    match event.fact:
        case domain.Registered(username):
            return pb.UserRegistered(user_id=event.user_id, username=username)
        case domain.Activated():
            return pb.UserActivated(user_id=event.user_id)
        case domain.Updated(changed_fields):
            return pb.UserUpdated(user_id=event.user_id, changed_fields=changed_fields)
        case domain.Suspended():
            return pb.UserSuspended(user_id=event.user_id)
        case domain.Reinstated():
            return pb.UserReinstated(user_id=event.user_id)
        case domain.Deactivated():
            return pb.UserDeactivated(user_id=event.user_id)
        case domain.RoleGranted(role):
            return pb.UserRoleGranted(user_id=event.user_id, role=convert.role_to_proto(role))
        case domain.RoleRevoked(role):
            return pb.UserRoleRevoked(user_id=event.user_id, role=convert.role_to_proto(role))
        case domain.SignedIn(session_id):
            return pb.UserSignedIn(user_id=event.user_id, session_id=session_id)


def key_to_message(event: api_keys.KeyEvent) -> Message:
    match event:
        case api_keys.ApiKeyCreated(api_key_id, user_id, scopes):
            return pb.ApiKeyCreated(api_key_id=api_key_id, user_id=user_id, scopes=scopes)
        case api_keys.ApiKeyRevoked(api_key_id, user_id):
            return pb.ApiKeyRevoked(api_key_id=api_key_id, user_id=user_id)
