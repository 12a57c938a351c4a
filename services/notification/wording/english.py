"""English."""

from typing import Final

from services.notification.wording.language import Language, Text

LANGUAGE: Final = Language(
    code="en",
    greeting="Hello {name},",
    greeting_nameless="Hello,",
    closing="You get this because you have an account with us. Nobody reads answers to this address.",
    reasons={
        "OUT_OF_STOCK": "something in it is out of stock",
        "PAYMENT_DECLINED": "the payment was declined",
        "": "it could not be completed",
    },
    texts={
        "OrderConfirmed": Text(
            "Order confirmed",
            "Your order {order_id} over {amount} is confirmed.",
            with_also={"held": "You pay when it is shipped."},
        ),
        "OrderRejected": Text(
            "Order rejected",
            "Your order {order_id} came to nothing because {reason}. You are not charged for it.",
        ),
        "OrderCancelled": Text(
            "Order cancelled",
            "Your order {order_id} is cancelled. You are not charged for it.",
            with_also={
                "unpaid": "It was to be shipped, and its price could not be taken.",
                "held": "What was set aside for it is released; your bank may take some days to show that.",
            },
        ),
        "OrderShipped": Text(
            "Order shipped",
            "Your order {order_id} is on its way.",
            with_also={"tracking_reference": "The carrier calls the parcel {tracking_reference}."},
        ),
        "OrderDelivered": Text("Order delivered", "Your order {order_id} has arrived."),
        "OrderRefunded": Text(
            "Less to pay", "You pay {amount} less for your order {order_id} when it is shipped."
        ),
        "PaymentDeclined": Text(
            "Payment declined", "The payment of {amount} for your order {order_id} was declined."
        ),
        "PaymentRefunded": Text(
            "Payment refunded", "{amount} for your order {order_id} are on their way back to you."
        ),
        "UserRegistered": Text(
            "Welcome",
            "Your account is registered and waits to be activated.",
            with_also={"activation_link": "To activate it, open this within two days: {activation_link}"},
        ),
        "UserActivated": Text("Account activated", "Your account is active: you can buy now."),
        "UserSuspended": Text("Account suspended", "Your account is suspended: you cannot buy for now."),
        "UserReinstated": Text("Account reinstated", "Your account is active again."),
        "UserDeactivated": Text("Account closed", "Your account is closed. Thank you for having been here."),
    },
)
