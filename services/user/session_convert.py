"""Sessions and tokens as the contract has them. Pure."""

from bodega.user.v1 import session_pb2 as pb

from services.chassis.wire import timestamp
from services.user.key_schedule import TOKEN_LIFE
from services.user.sessions import Session
from services.user.tokens import AccessToken


def session_to_proto(session: Session) -> pb.Session:
    return pb.Session(
        session_id=session.id,
        user_id=session.user_id,
        create_time=timestamp(session.created_at),
        refresh_time=timestamp(session.refreshed_at),
        expire_time=timestamp(session.expires_at),
    )


def tokens_to_proto(session: Session, access: AccessToken, refresh_token: str) -> pb.SessionTokens:
    made = pb.SessionTokens(
        session=session_to_proto(session), access_token=access.text, refresh_token=refresh_token
    )
    made.expires_in.FromTimedelta(TOKEN_LIFE)
    return made
