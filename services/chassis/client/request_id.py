"""Gives every write an identity before its first attempt, so that all attempts are one request."""

from collections.abc import Awaitable
from typing import Any

from services.chassis.client.layer import Outgoing, Send
from services.chassis.contract import Method
from services.kernel.ids import Ids


class RequestId:
    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def around(self, method: Method, inner: Send) -> Send:
        if not method.takes_request_id:
            return inner
        ids = self._ids

        def identified(call: Outgoing) -> Awaitable[Any]:
            given: Any = call.request
            if not given.request_id:
                # A copy: a caller who sends the same message twice means two requests.
                request: Any = type(given)()
                request.CopyFrom(given)
                request.request_id = ids.new()
                call.request = request
            return inner(call)

        return identified
