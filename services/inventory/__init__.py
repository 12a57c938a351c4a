"""Inventory: what is for sale, what it costs, and how much of it is where.

We own products, prices, warehouses, stock levels and the holds of orders on them.

We promise that on_hand = available + reserved, per product and warehouse, never negative; that every change
of either is a row in the movement ledger; that an order's hold is taken whole or not at all, once, and comes
back whenever it is released or runs out of time; and that an order whose stock was given back never takes any
again.

We publish ProductCreated, ProductUpdated, PriceChanged, StockAdjusted (keyed by product), StockReserved,
StockReleased, StockCommitted, ReservationExpired (keyed by order). We listen to nobody.
"""
