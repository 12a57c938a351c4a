"""The link in a welcome by which its reader shows that mail reaches them.

Its token is asked for at each send and kept nowhere. A send that is repeated gets the same token, so the
letter stays the same; see IssueActivationToken.
"""

from typing import Final
from urllib.parse import urlencode

import grpc
from bodega.user.v1 import user_events_pb2 as users
from bodega.user.v1 import user_pb2 as pb
from bodega.user.v1 import user_pb2_grpc

from services.chassis import status
from services.notification.domain import Notification
from services.notification.recipients import unanswered

_WELCOME: Final = users.UserRegistered.DESCRIPTOR.full_name


class ActivationLinks:
    """Makes links to the shop's activation page; none if the shop has no such page."""

    def __init__(self, users: user_pb2_grpc.UserServiceStub, page: str) -> None:
        self._users = users
        self._page = page

    async def link(self, notification: Notification) -> str:
        """For a welcome to an account that waits to be activated; empty for any other message.

        Raises Away while the user service is.
        """
        if not self._page or notification.fact.event_type != _WELCOME:
            return ""
        user_id = notification.message.user_id
        request = pb.IssueActivationTokenRequest(user_id=user_id, request_id=notification.id)
        try:
            issued = await self._users.IssueActivationToken(request)
        except grpc.aio.AioRpcError as error:
            if status.reason(error) == "USER_NOT_ACTIVATABLE":  # somebody was faster than the mail
                return ""
            raise unanswered(error) from None
        # As a fragment: what follows a # stays in the browser, out of everybody's access logs.
        return f"{self._page}#{urlencode({'user_id': user_id, 'token': issued.activation_token})}"
