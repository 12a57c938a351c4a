"""What people do with their secrets: every field of a request that holds one is accepted once."""

import uuid

from bodega.inventory.v1 import inventory_pb2 as inventory
from bodega.order.v1 import order_pb2 as order
from bodega.payment.v1 import payment_pb2 as payment
from bodega.user.v1 import api_key_pb2 as keys
from bodega.user.v1 import session_pb2 as sessions
from bodega.user.v1 import user_pb2 as users
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.type.money_pb2 import Money

from tests.secrets.doors import Doors, M
from tests.secrets.seeds import CARD, EMAIL, NAME, PASSWORD, PHONE, TOKEN


class Person:
    """One account and what it is opened with."""

    def __init__(self, doors: Doors) -> None:
        self.doors, new = doors, doors.known.new
        self.email, self.password = new(EMAIL), new(PASSWORD)
        self.profile = users.Profile(display_name=new(NAME), phone_number=new(PHONE))
        self.user_id = self.token = self.refresh = ""

    async def done(self, request: Message, reply: type[M], *, workload: str = "", token: str = "") -> M:
        """Done twice: the second answer is a remembered one, if any is."""
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
        ask = self.doors.ask
        answer = await ask(request, reply, workload=workload, token=token or self.token)
        assert answer is not None, f"{request.DESCRIPTOR.name}: {self.doors.said[-1]}"
        await ask(request, reply, workload=workload, token=token or self.token)
        return answer

    async def refused(self, request: Message) -> None:
        answer = await self.doors.ask(request, Message, token=self.token)
        assert answer is None, request.DESCRIPTOR.name

    async def registers(self) -> None:
        wish = users.RegisterUserRequest(
            email=self.email, username=f"u-{uuid.uuid4().hex[:12]}", password=self.password,
            profile=self.profile,
        )  # fmt: skip
        self.user_id = (await self.done(wish, users.User)).user_id
        wish.username, wish.request_id = "somebody-else", str(uuid.uuid4())
        await self.refused(wish)  # the address is taken

    async def activates(self) -> None:
        ask = users.IssueActivationTokenRequest(user_id=self.user_id)
        issued = await self.done(ask, users.IssueActivationTokenResponse, workload="notification")
        token = issued.activation_token
        await self.refused(
            users.ActivateUserRequest(
                user_id=self.user_id, activation_token=self.doors.known.new(TOKEN), request_id="1"
            )
        )
        await self.done(users.ActivateUserRequest(user_id=self.user_id, activation_token=token), users.User)

    async def signs_in(self) -> None:
        wrong = sessions.CreateSessionRequest(email=self.email, password=self.doors.known.new(PASSWORD))
        await self.refused(wrong)
        right = sessions.CreateSessionRequest(email=self.email, password=self.password)
        self.refresh = (await self.done(right, sessions.SessionTokens)).refresh_token
        again = await self.done(
            sessions.RefreshSessionRequest(refresh_token=self.refresh), sessions.SessionTokens
        )
        self.token, self.refresh = again.access_token, again.refresh_token

    async def signs_out(self) -> None:
        request = sessions.RevokeSessionRequest(refresh_token=self.refresh)
        await self.done(request, Empty)
        await self.refused(sessions.RefreshSessionRequest(refresh_token=self.refresh, request_id="1"))

    async def changes_everything(self) -> None:
        new = self.doors.known.new
        self.email = new(EMAIL)
        account = users.User(
            user_id=self.user_id,
            email=self.email,
            profile=users.Profile(display_name=new(NAME), phone_number=new(PHONE)),
        )
        request = users.UpdateUserRequest(user=account)
        request.update_mask.paths.extend(("email", "profile"))
        await self.done(request, users.User)
        password = new(PASSWORD)
        await self.done(
            users.ChangePasswordRequest(
                user_id=self.user_id, current_password=self.password, new_password=password
            ),
            Empty,
        )
        self.password = password

    async def makes_a_key(self) -> None:
        wish = keys.CreateApiKeyRequest(user_id=self.user_id, name="mine", scopes=["user:read", "order:read"])
        made = await self.done(wish, keys.CreateApiKeyResponse)
        exchange = keys.ExchangeApiKeyRequest(api_key=made.secret)
        await self.done(exchange, keys.ExchangeApiKeyResponse, workload="gateway")
        for key in (made.secret, self.doors.known.new(TOKEN)):
            await self.doors.send("GET", f"/api/v1/users/{self.user_id}", headers={"X-Api-Key": key})

    async def buys(self, product_id: str) -> None:
        card = payment.AddPaymentMethodRequest(
            user_id=self.user_id, provider_token=self.doors.known.new(CARD)
        )
        method = await self.done(card, payment.PaymentMethod)
        await self.refused(
            payment.AddPaymentMethodRequest(
                user_id=self.user_id, provider_token=self.doors.known.new(TOKEN), request_id="1"
            )
        )
        wish = order.CreateOrderRequest(
            user_id=self.user_id,
            payment_method_id=method.payment_method_id,
            currency="USD",
            lines=[order.CreateOrderLine(product_id=product_id, quantity=1)],
            wait_until_settled=True,
        )
        placed = await self.done(wish, order.Order)
        await self.done(order.GetOrderDetailsRequest(order_id=placed.order_id), order.OrderDetails)


class Administrator(Person):
    """Looks at everybody, and ends accounts."""

    async def begins(self) -> None:
        request = users.CreateAdministratorRequest(
            email=self.email, username=f"a-{uuid.uuid4().hex[:12]}", password=self.password
        )
        await self.done(request, users.User, workload="operator")
        await self.signs_in()

    async def stocks(self) -> str:
        price = Money(currency_code="USD", units=10)
        thing = inventory.Product(sku=uuid.uuid4().hex, name="A thing", price=price)
        product = await self.done(inventory.CreateProductRequest(product=thing), inventory.Product)
        await self.done(
            inventory.SetStockRequest(product_id=product.product_id, on_hand=100), inventory.StockLevel
        )
        return str(product.product_id)

    async def looks_for(self, other: Person) -> None:
        found = await self.done(users.ListUsersRequest(email_prefix=other.email), users.ListUsersResponse)
        assert [user.user_id for user in found.users] == [other.user_id]

    async def ends(self, other: Person) -> None:
        await self.done(users.SuspendUserRequest(user_id=other.user_id, reason="a test"), users.User)
        await self.done(users.ReinstateUserRequest(user_id=other.user_id), users.User)
        await self.done(users.DeactivateUserRequest(user_id=other.user_id), Empty)


async def lived(doors: Doors) -> Administrator:
    """A day in the shop; the administrator, who is still signed in."""
    admin, buyer, leaver = Administrator(doors), Person(doors), Person(doors)
    await admin.begins()
    product_id = await admin.stocks()
    for person in (buyer, leaver):
        await person.registers()
        await person.activates()
        await person.signs_in()
    await buyer.changes_everything()
    await buyer.makes_a_key()
    await buyer.buys(product_id)
    await admin.looks_for(buyer)
    await leaver.signs_out()
    await admin.ends(leaver)
    return admin
