"""Notification: what people are told.

We own messages: one to one person about one fact, with where it stands on its way.

We promise that each fact notifies once however often it is delivered; that a user's messages leave in the
order they were written; and that what cannot be delivered is tried again for a while, what never can be is
not, and either ends up parked where an operator sees it. A message may be sent twice if the process dies
inside the send: under the same id. Where people live on the net we ask at each send, and do not keep.

We publish nothing. We listen to OrderConfirmed, OrderRejected, OrderCancelled, OrderShipped,
OrderDelivered, OrderRefunded, PaymentDeclined, PaymentRefunded, UserRegistered, UserActivated, UserSuspended,
UserReinstated and UserDeactivated.
"""
