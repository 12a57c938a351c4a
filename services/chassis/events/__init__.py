"""Facts on their way: outbox, relay, JetStream, inbox, consumers.

A service writes an `Envelope` to its `Outbox` in the transaction of the fact; the `Relay` publishes it in
order per aggregate; a `Consumer` elsewhere has its effect once.
"""
