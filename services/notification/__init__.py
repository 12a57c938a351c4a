"""Notification: what people are told.

We own messages: one to one person about one fact, with where it stands on its way.

We promise that each fact notifies once however often it is delivered; that a user's messages leave in the
order they were written; and that what cannot be delivered is tried again for a while, then parked where an
operator sees it. A message may be sent twice if the process dies inside the send: under the same id.

We publish nothing. We listen to OrderConfirmed, OrderRejected, OrderCancelled, PaymentDeclined,
PaymentRefunded, UserRegistered, UserActivated, UserSuspended, UserReinstated and UserDeactivated.
"""
