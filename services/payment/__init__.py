"""Payment: what people pay with, and the money of their orders.

Owns payment methods, payments (one per order), every operation at the provider, and the ledger. Promises
that a charge happens once however often it is asked for, that what a provider has not answered is asked and
never guessed, and that money which turns up after its order was given up goes back by itself, once.
Publishes PaymentAuthorized, PaymentDeclined, PaymentCaptured, PaymentVoided, PaymentRefunded,
PaymentMethodAdded and PaymentMethodRemoved. Listens to order: for what has ended nobody pays any more.
"""
