"""Money in whole cents."""

from google.type import money_pb2


def proto(minor: int, currency: str) -> money_pb2.Money:
    return money_pb2.Money(currency_code=currency, units=minor // 100, nanos=minor % 100 * 10_000_000)


def minor(money: money_pb2.Money) -> int:
    return int(money.units * 100 + money.nanos // 10_000_000)
