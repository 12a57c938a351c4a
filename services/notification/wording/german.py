"""German."""

from typing import Final

from services.notification.wording.language import Language, Text

LANGUAGE: Final = Language(
    code="de",
    greeting="Hallo {name},",
    greeting_nameless="Hallo,",
    closing="Sie bekommen dies, weil Sie bei uns ein Konto haben. Antworten an diese Adresse liest niemand.",
    reasons={
        "OUT_OF_STOCK": "etwas daraus ausverkauft ist",
        "PAYMENT_DECLINED": "die Zahlung abgelehnt wurde",
        "": "sie nicht ausgeführt werden konnte",
    },
    texts={
        "OrderConfirmed": Text(
            "Bestellung bestätigt",
            "Ihre Bestellung {order_id} über {amount} ist bestätigt.",
            with_also={"held": "Sie zahlen, wenn sie verschickt wird."},
        ),
        "OrderRejected": Text(
            "Bestellung nicht möglich",
            "Aus Ihrer Bestellung {order_id} wurde nichts, weil {reason}. Sie wird Ihnen nicht berechnet.",
        ),
        "OrderCancelled": Text(
            "Bestellung storniert",
            "Ihre Bestellung {order_id} ist storniert. Sie wird Ihnen nicht berechnet.",
            with_also={
                "unpaid": "Sie sollte verschickt werden, doch ihr Preis konnte nicht eingezogen werden.",
                "held": "Der vorgemerkte Betrag ist wieder frei; bei Ihrer Bank kann das einige Tage dauern.",
            },
        ),
        "OrderShipped": Text(
            "Bestellung unterwegs",
            "Ihre Bestellung {order_id} ist unterwegs.",
            with_also={"tracking_reference": "Das Paket heißt beim Zusteller {tracking_reference}."},
        ),
        "OrderDelivered": Text("Bestellung zugestellt", "Ihre Bestellung {order_id} ist angekommen."),
        "OrderRefunded": Text(
            "Weniger zu zahlen",
            "Sie zahlen {amount} weniger für Ihre Bestellung {order_id}, wenn sie verschickt wird.",
        ),
        "PaymentDeclined": Text(
            "Zahlung abgelehnt", "Die Zahlung von {amount} für Ihre Bestellung {order_id} wurde abgelehnt."
        ),
        "PaymentRefunded": Text(
            "Zahlung erstattet", "{amount} für Ihre Bestellung {order_id} sind auf dem Weg zurück zu Ihnen."
        ),
        "UserRegistered": Text(
            "Willkommen",
            "Ihr Konto ist angelegt und wartet darauf, dass Sie es freischalten.",
            with_also={"activation_link": "Öffnen Sie dazu innerhalb von zwei Tagen: {activation_link}"},
        ),
        "UserActivated": Text("Konto freigeschaltet", "Ihr Konto ist frei: Sie können jetzt einkaufen."),
        "UserSuspended": Text(
            "Konto gesperrt", "Ihr Konto ist gesperrt: Sie können vorerst nicht einkaufen."
        ),
        "UserReinstated": Text("Konto wieder frei", "Ihr Konto ist wieder frei."),
        "UserDeactivated": Text("Konto geschlossen", "Ihr Konto ist geschlossen. Danke, dass Sie da waren."),
    },
)
