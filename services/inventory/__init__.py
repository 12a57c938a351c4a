"""Inventory: what is for sale, what it costs, and how much of it is where.

We own products, prices, warehouses, stock levels, restock plans, the holds of orders on stock and what comes
back of their sales.

We promise that on_hand = available + reserved, per product and warehouse, never negative; that every change
of either is a row in the movement ledger; that an order's hold is taken whole or not at all, once, and comes
back whenever it is released or runs out of time; that an order whose stock was given back never takes any
again; that no more of a sale comes back than was sold; that each crossing of a low-stock mark is told once;
and that who watches a product hears of its newest levels after every commit that changed them.

We publish ProductCreated, ProductUpdated, PriceChanged, StockAdjusted, StockLow, StockReplenished (keyed by
product), StockReserved, StockReleased, StockCommitted, StockReturned, ReservationExpired (keyed by order). We
listen to nobody.
"""
