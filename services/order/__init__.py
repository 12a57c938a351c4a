"""Orders: we own what was bought and how far that has come.

We promise that every accepted order ends: CONFIRMED with the goods sold and the money taken, or REJECTED or
CANCELLED with both given back. An order is stored as its events; the saga is a pure function of them
(`domain.next_step`).

Publishes OrderPlaced, OrderConfirmed, OrderRejected, OrderCancelled, OrderShipped, OrderDelivered,
OrderRefunded and OrderNeedsAttention. Calls user and catalogue to accept an order, inventory and payment to
see it through. Listens to payment: late money that went back stands in the order's history.
"""
