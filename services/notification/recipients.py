"""Who is behind a user id: asked of the user service at each send, and forgotten after it."""

from typing import Final

import grpc
from bodega.user.v1 import user_pb2 as pb
from bodega.user.v1 import user_pb2_grpc

from services.chassis import status
from services.notification.channels import Away, NotSent, Undeliverable
from services.notification.letters import Recipient

USER_UNKNOWN: Final = "USER_UNKNOWN"
USER_DEACTIVATED: Final = "USER_DEACTIVATED"
NO_ADDRESS: Final = "NO_ADDRESS"

_AWAY: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Recipients:
    """Finds recipients by their user ids."""

    def __init__(self, users: user_pb2_grpc.UserServiceStub) -> None:
        self._users = users

    async def find(self, user_id: str, *, even_if_closed: bool = False) -> Recipient:
        """The recipient, as they want to be addressed now.

        Raises Undeliverable if there is nobody to write to; Away while the user service is.
        """
        try:
            user = await self._users.GetUser(pb.GetUserRequest(user_id=user_id))
        except grpc.aio.AioRpcError as error:
            if status.reason(error) == "USER_NOT_FOUND":
                raise Undeliverable(USER_UNKNOWN) from None
            raise unanswered(error) from None
        if user.state == pb.User.STATE_DEACTIVATED and not even_if_closed:
            raise Undeliverable(USER_DEACTIVATED)
        if not user.email:
            raise Undeliverable(NO_ADDRESS)
        return Recipient(
            user.email,
            name=user.profile.display_name or user.username,
            language_code=user.profile.language_code,
        )


def unanswered(error: grpc.aio.AioRpcError) -> NotSent:
    """What to raise for a call of the user service, whose words are not ours to repeat."""
    code = error.code()
    return (Away if code in _AWAY else NotSent)(f"USER_SERVICE_{code.name}")
