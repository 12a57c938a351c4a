"""The RPCs of inventory, over a real server."""

import asyncio
from typing import Any

import grpc
import pytest
from bodega.inventory.v1 import inventory_pb2 as pb
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.error_details_pb2 import BadRequest
from google.type.money_pb2 import Money

from services.chassis import status
from services.inventory.stock import DEFAULT_WAREHOUSE_ID
from tests.inventory.shop import (
    EXISTS,
    INVALID,
    NOBODY,
    NOT_FOUND,
    WRONG_STATE,
    Figures,
    Shop,
    euros,
    order,
    refused,
)


class TestCatalog:
    async def test_a_created_product_is_found(self, shop: Shop) -> None:
        created = await shop.product("B-1", name="Beans", description="Good", category="coffee")
        assert created.price == euros(5)
        assert created.create_time == created.update_time
        found = await shop.catalog.GetProduct(pb.GetProductRequest(product_id=created.product_id))
        assert found == created

    async def test_a_product_that_is_not_there(self, shop: Shop) -> None:
        await refused(
            shop.catalog.GetProduct(pb.GetProductRequest(product_id=NOBODY)), NOT_FOUND, "PRODUCT_NOT_FOUND"
        )

    async def test_several_at_once_leave_out_what_is_not_there(self, shop: Shop) -> None:
        made = [await shop.product(sku) for sku in ("A", "B")]
        reply = await shop.catalog.BatchGetProducts(
            pb.BatchGetProductsRequest(product_ids=[*(product.product_id for product in made), NOBODY])
        )
        assert sorted(product.sku for product in reply.products) == ["A", "B"]

    async def test_an_article_number_is_taken_once(self, shop: Shop) -> None:
        await shop.product("B-1")
        error = await refused(shop.product("B-1"), EXISTS, "SKU_TAKEN")
        assert status.metadata(error) == {"sku": "B-1"}

    async def test_a_repeat_gets_the_first_reply(self, shop: Shop) -> None:
        request = pb.CreateProductRequest(
            product=pb.Product(sku="B-1", name="Beans", price=euros(5)), request_id="once"
        )
        replies = await asyncio.gather(*(shop.catalog.CreateProduct(request) for _ in range(5)))
        assert all(reply == replies[0] for reply in replies)
        assert await shop.listed() == ["B-1"]

    async def test_the_same_request_id_for_another_product_is_refused(self, shop: Shop) -> None:
        first = pb.CreateProductRequest(
            product=pb.Product(sku="B-1", name="Beans", price=euros(5)), request_id="once"
        )
        await shop.catalog.CreateProduct(first)
        first.product.sku = "B-2"
        await refused(shop.catalog.CreateProduct(first), INVALID, "REQUEST_ID_REUSED")

    @pytest.mark.parametrize(
        ("price", "reason"),
        [
            (euros(5, currency="euro"), "INVALID_REQUEST"),
            (euros(0), "INVALID_REQUEST"),
            (euros(-1), "INVALID_REQUEST"),
            (euros(1_000_000_000), "INVALID_REQUEST"),
            (euros(5, nanos=1_000_000_000), "INVALID_REQUEST"),
            (euros(5, nanos=1), "AMOUNT_TOO_PRECISE"),
            (euros(5, nanos=10_000_000, currency="JPY"), "AMOUNT_TOO_PRECISE"),
        ],
        ids=["currency", "nothing", "negative", "huge", "nanos", "tenth of a cent", "part of a yen"],
    )
    async def test_a_price_nobody_can_pay_is_refused(self, shop: Shop, price: Money, reason: str) -> None:
        await refused(shop.product("B-1", price=price), INVALID, reason)
        assert await shop.listed() == []

    async def test_every_mistake_is_named_at_once(self, shop: Shop) -> None:
        request = pb.CreateProductRequest(
            product=pb.Product(sku="no spaces", name="x" * 201, price=euros(-1)), request_id="\n"
        )
        error = await refused(shop.catalog.CreateProduct(request), INVALID, "INVALID_REQUEST")
        bad = status.detail(error, BadRequest)
        assert bad is not None
        fields = {violation.field for violation in bad.field_violations}
        assert {"product.sku", "product.name", "product.price", "request_id"} <= fields

    @pytest.mark.parametrize(
        "product",
        [
            pb.Product(name="Beans", price=euros(5)),
            pb.Product(sku="B-1", price=euros(5)),
            pb.Product(sku="B-1", name="Beans"),
        ],
        ids=["sku", "name", "price"],
    )
    async def test_what_a_product_needs_is_asked_for(self, shop: Shop, product: pb.Product) -> None:
        await refused(
            shop.catalog.CreateProduct(pb.CreateProductRequest(product=product)), INVALID, "INVALID_REQUEST"
        )


class TestUpdate:
    async def update(self, shop: Shop, product: pb.Product, *paths: str) -> pb.Product:
        return await shop.catalog.UpdateProduct(
            pb.UpdateProductRequest(product=product, update_mask=FieldMask(paths=paths))
        )

    async def test_only_what_the_mask_names_changes(self, shop: Shop) -> None:
        before = await shop.product("B-1", name="Beans", category="coffee")
        shop.clock.advance(1)
        changed = await self.update(
            shop, pb.Product(product_id=before.product_id, name="Best beans", category="tea"), "name"
        )
        assert (changed.name, changed.category, changed.sku) == ("Best beans", "coffee", "B-1")
        assert changed.etag != before.etag
        assert changed.update_time.ToDatetime() > before.update_time.ToDatetime()
        assert changed.create_time == before.create_time

    async def test_an_empty_mask_replaces_all(self, shop: Shop) -> None:
        before = await shop.product("B-1", name="Beans", category="coffee")
        changed = await self.update(
            shop, pb.Product(product_id=before.product_id, sku="B-2", name="Best beans")
        )
        assert (changed.sku, changed.name, changed.category) == ("B-2", "Best beans", "")
        assert changed.price == before.price

    async def test_an_old_etag_is_refused_and_changes_nothing(self, shop: Shop) -> None:
        before = await shop.product("B-1")
        await self.update(
            shop, pb.Product(product_id=before.product_id, name="First", etag=before.etag), "name"
        )
        late = pb.Product(product_id=before.product_id, name="Second", etag=before.etag)
        await refused(self.update(shop, late, "name"), grpc.StatusCode.ABORTED, "STALE_ETAG")
        found = await shop.catalog.GetProduct(pb.GetProductRequest(product_id=before.product_id))
        assert found.name == "First"

    @pytest.mark.parametrize("path", ["price", "product_id", "create_time", "nonsense"])
    async def test_what_cannot_change_is_refused(self, shop: Shop, path: str) -> None:
        before = await shop.product("B-1")
        await refused(self.update(shop, before, "name", path), INVALID, "INVALID_MASK")

    @pytest.mark.parametrize(("path", "reason"), [("sku", "SKU_REQUIRED"), ("name", "NAME_REQUIRED")])
    async def test_what_a_product_needs_cannot_be_emptied(self, shop: Shop, path: str, reason: str) -> None:
        before = await shop.product("B-1")
        await refused(self.update(shop, pb.Product(product_id=before.product_id), path), INVALID, reason)

    async def test_another_products_article_number_is_refused(self, shop: Shop) -> None:
        await shop.product("A")
        other = await shop.product("B")
        wanted = pb.Product(product_id=other.product_id, sku="A")
        await refused(self.update(shop, wanted, "sku"), EXISTS, "SKU_TAKEN")

    async def test_a_product_that_is_not_there(self, shop: Shop) -> None:
        await refused(
            self.update(shop, pb.Product(product_id=NOBODY, name="x"), "name"), NOT_FOUND, "PRODUCT_NOT_FOUND"
        )

    async def test_a_price_is_set_and_kept(self, shop: Shop, check_invariants: Figures) -> None:
        before = await shop.product("B-1")
        changed = await shop.catalog.SetPrice(
            pb.SetPriceRequest(product_id=before.product_id, price=euros(7, nanos=500_000_000))
        )
        assert changed.price == euros(7, nanos=500_000_000)
        assert changed.etag != before.etag
        assert check_invariants()["catalog.prices"]["prices"] == 2
        await refused(
            shop.catalog.SetPrice(pb.SetPriceRequest(product_id=NOBODY, price=euros(1))),
            NOT_FOUND,
            "PRODUCT_NOT_FOUND",
        )


class TestList:
    @pytest.fixture
    async def shelf(self, shop: Shop) -> Shop:
        """Four products, a second apart. Only B and D can be bought: A was never there, C is held."""
        for sku, name, category, price in (
            ("A", "Äpfel", "fruit", euros(3)),
            ("B", "beans", "coffee", euros(12)),
            ("C", "Cocoa 100%", "coffee", euros(5)),
            ("D", "dates", "fruit", euros(400, currency="USD")),
        ):
            made = await shop.product(
                sku, name=name, category=category, price=price, on_hand=0 if sku == "A" else 1
            )
            if sku == "C":
                await shop.reserve(order(), (made, 1))
            shop.clock.advance(1)
        return shop

    @pytest.mark.parametrize(
        ("search", "found"),
        [
            ({}, "DCBA"),
            ({"order_by": "create_time"}, "ABCD"),
            ({"order_by": "name"}, "BCDA"),
            ({"order_by": "name desc"}, "ADCB"),
            ({"order_by": "price"}, "ACBD"),
            ({"order_by": "price desc"}, "DBCA"),
            ({"category": "coffee"}, "CB"),
            ({"in_stock": True}, "DB"),
            ({"query": "BEA"}, "B"),
            ({"query": "äPF"}, "A"),
            ({"query": "%"}, "C"),
            ({"query": "_"}, ""),
            ({"query": "'"}, ""),
            ({"min_price": euros(5)}, "CB"),
            ({"max_price": euros(5)}, "CA"),
            ({"min_price": euros(4), "max_price": euros(6)}, "C"),
            ({"category": "coffee", "in_stock": True, "query": "b"}, "B"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("page_size", [0, 1, 3])
    async def test_filters_and_orders(
        self, shelf: Shop, search: dict[str, Any], found: str, page_size: int
    ) -> None:
        assert await shelf.listed(**search, page_size=page_size) == list(found)

    async def test_an_order_we_do_not_know_is_refused(self, shop: Shop) -> None:
        request = pb.ListProductsRequest(order_by="sku; DROP TABLE products")
        await refused(shop.catalog.ListProducts(request), INVALID, "INVALID_REQUEST")

    async def test_two_currencies_make_no_range(self, shop: Shop) -> None:
        request = pb.ListProductsRequest(min_price=euros(1), max_price=euros(2, currency="USD"))
        await refused(shop.catalog.ListProducts(request), INVALID, "CURRENCY_MISMATCH")

    async def test_a_token_is_good_for_its_search_and_for_a_day(self, shelf: Shop) -> None:
        first = await shelf.catalog.ListProducts(pb.ListProductsRequest(page_size=2))
        other = pb.ListProductsRequest(page_token=first.next_page_token, category="coffee")
        await refused(shelf.catalog.ListProducts(other), INVALID, "INVALID_PAGE_TOKEN")
        made_up = pb.ListProductsRequest(page_token="made up")
        await refused(shelf.catalog.ListProducts(made_up), INVALID, "INVALID_PAGE_TOKEN")
        shelf.clock.advance(24 * 3600 + 1)
        late = pb.ListProductsRequest(page_token=first.next_page_token)
        await refused(shelf.catalog.ListProducts(late), INVALID, "INVALID_PAGE_TOKEN")


class TestStock:
    async def test_counted_stock_is_available(self, shop: Shop) -> None:
        beans = await shop.product("B-1")
        level = await shop.count(beans, 7)
        assert (level.on_hand, level.reserved, level.available) == (7, 0, 7)
        assert level.warehouse_id == DEFAULT_WAREHOUSE_ID
        assert await shop.available(beans, 7) == pb.CheckAvailabilityResponse(
            available=True, available_quantity=7, warehouse_id=DEFAULT_WAREHOUSE_ID
        )
        assert await shop.available(beans, 8) == pb.CheckAvailabilityResponse(
            available=False, available_quantity=7
        )
        assert (await shop.available(beans, 0)).available

    async def test_a_product_without_stock_is_not_available(self, shop: Shop) -> None:
        beans = await shop.product("B-1")
        assert await shop.available(beans) == pb.CheckAvailabilityResponse(
            available=False, available_quantity=0
        )

    async def test_what_is_held_cannot_be_counted_away(self, shop: Shop) -> None:
        beans = await shop.product("B-1", on_hand=5)
        await shop.reserve(order(), (beans, 3))
        await refused(shop.count(beans, 2), WRONG_STATE, "STOCK_BELOW_RESERVED")
        assert (await shop.count(beans, 3)).available == 0

    async def test_neither_product_nor_warehouse_may_be_unknown(self, shop: Shop) -> None:
        beans = await shop.product("B-1")
        ghost = pb.Product(product_id=NOBODY)
        await refused(shop.count(ghost, 1), NOT_FOUND, "PRODUCT_NOT_FOUND")
        await refused(shop.available(ghost), NOT_FOUND, "PRODUCT_NOT_FOUND")
        elsewhere = pb.SetStockRequest(product_id=beans.product_id, warehouse_id=NOBODY, on_hand=1)
        await refused(shop.inventory.SetStock(elsewhere), NOT_FOUND, "WAREHOUSE_NOT_FOUND")
        look = pb.CheckAvailabilityRequest(product_id=beans.product_id, warehouse_id=NOBODY)
        await refused(shop.inventory.CheckAvailability(look), NOT_FOUND, "WAREHOUSE_NOT_FOUND")

    @pytest.mark.parametrize("on_hand", [-1, 1_000_000_001])
    async def test_a_count_out_of_range_is_refused(self, shop: Shop, on_hand: int) -> None:
        beans = await shop.product("B-1")
        await refused(shop.count(beans, on_hand), INVALID, "INVALID_REQUEST")


class TestHolds:
    async def test_reserve_and_commit(self, shop: Shop, check_invariants: Figures) -> None:
        beans, milk = await shop.product("B-1", on_hand=5), await shop.product("M-1", on_hand=5)
        placed = order()
        held = await shop.reserve(placed, (beans, 2), (milk, 1), (beans, 1))
        assert held.state == pb.Reservation.STATE_RESERVED
        assert {line.product_id: line.quantity for line in held.lines} == {
            beans.product_id: 3,
            milk.product_id: 1,
        }
        assert (held.expire_time.ToDatetime() - held.create_time.ToDatetime()).total_seconds() == 900
        sold = await shop.commit(placed)
        assert (sold.state, sold.reservation_id) == (pb.Reservation.STATE_COMMITTED, held.reservation_id)
        assert (await shop.available(beans)).available_quantity == 2
        check_invariants()

    async def test_the_same_order_again_gets_its_hold_whatever_the_request_id(self, shop: Shop) -> None:
        beans = await shop.product("B-1", on_hand=5)
        placed = order()
        replies = await asyncio.gather(
            shop.reserve(placed, (beans, 3), request_id="one"),
            shop.reserve(placed, (beans, 3), request_id="one"),
            shop.reserve(placed, (beans, 3), request_id="two"),
            shop.reserve(placed, (beans, 1), (beans, 2), request_id="three"),
        )
        assert len({reply.reservation_id for reply in replies}) == 1
        assert (await shop.available(beans)).available_quantity == 2

    async def test_other_lines_for_the_same_order_are_refused(self, shop: Shop) -> None:
        beans = await shop.product("B-1", on_hand=5)
        placed = order()
        await shop.reserve(placed, (beans, 1))
        await refused(shop.reserve(placed, (beans, 2)), INVALID, "RESERVATION_MISMATCH")
        assert (await shop.available(beans)).available_quantity == 4

    async def test_out_of_stock_stays_out_of_stock_for_that_order(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        beans = await shop.product("B-1", on_hand=1)
        placed = order()
        first = await refused(shop.reserve(placed, (beans, 2), request_id="one"), WRONG_STATE, "OUT_OF_STOCK")
        await shop.count(beans, 100)
        again = await refused(shop.reserve(placed, (beans, 2), request_id="one"), WRONG_STATE, "OUT_OF_STOCK")
        other = await refused(shop.reserve(placed, (beans, 2), request_id="two"), WRONG_STATE, "OUT_OF_STOCK")
        assert status.metadata(first) == status.metadata(again) == status.metadata(other)
        await refused(shop.commit(placed), WRONG_STATE, "RESERVATION_CLOSED")
        assert (await shop.reserve(order(), (beans, 100))).state == pb.Reservation.STATE_RESERVED
        check_invariants()

    async def test_a_reserve_that_arrives_after_the_release_is_refused(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        beans = await shop.product("B-1", on_hand=5)
        placed = order()
        nothing = await shop.release(placed)
        assert (nothing.reservation_id, nothing.state) == ("", pb.Reservation.STATE_RELEASED)
        await refused(shop.reserve(placed, (beans, 1)), WRONG_STATE, "RESERVATION_CLOSED")
        await refused(shop.commit(placed), WRONG_STATE, "RESERVATION_CLOSED")
        check_invariants()

    @pytest.mark.parametrize("sold", [False, True])
    async def test_a_release_undoes_once_from_any_state(
        self, shop: Shop, check_invariants: Figures, *, sold: bool
    ) -> None:
        beans = await shop.product("B-1", on_hand=5)
        placed = order()
        await shop.reserve(placed, (beans, 3), request_id="reserve")
        if sold:
            await shop.commit(placed, request_id="commit")
        first = await shop.release(placed, request_id="one")
        assert await shop.release(placed, request_id="one") == first
        assert await shop.release(placed, request_id="two") == first
        assert [line.quantity for line in first.lines] == [3]
        assert (await shop.available(beans)).available_quantity == 5
        # A repeat of what came before gets its remembered reply, and holds nothing.
        late = await shop.reserve(placed, (beans, 3), request_id="reserve")
        assert late.state == pb.Reservation.STATE_RESERVED
        await refused(shop.reserve(placed, (beans, 3), request_id="new"), WRONG_STATE, "RESERVATION_CLOSED")
        await refused(shop.commit(placed, request_id="new"), WRONG_STATE, "RESERVATION_CLOSED")
        assert (await shop.available(beans)).available_quantity == 5
        check_invariants()

    async def test_an_id_means_the_same_in_capitals(self, shop: Shop) -> None:
        beans = await shop.product("B-1", on_hand=5)
        placed = "abcdefab-cdef-4abc-8def-abcdefabcdef"
        held = await shop.reserve(placed.upper(), (beans, 1))
        assert held.order_id == placed
        assert (await shop.commit(placed)).reservation_id == held.reservation_id

    async def test_committing_what_was_never_held(self, shop: Shop) -> None:
        await refused(shop.commit(order()), NOT_FOUND, "RESERVATION_NOT_FOUND")

    async def test_an_expired_hold_is_committed_if_stock_is_left_and_else_not(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        beans = await shop.product("B-1", on_hand=5)
        lucky, late = order(), order()
        await shop.reserve(lucky, (beans, 2), expires_in_s=1)
        await shop.reserve(late, (beans, 3), expires_in_s=1)
        shop.clock.advance(1)
        assert (await shop.commit(lucky)).state == pb.Reservation.STATE_COMMITTED
        await shop.reserve(order(), (beans, 3))
        await refused(shop.commit(late), WRONG_STATE, "OUT_OF_STOCK")
        assert (await shop.release(late)).state == pb.Reservation.STATE_RELEASED
        check_invariants()

    async def test_an_unknown_product_or_warehouse_is_refused(self, shop: Shop) -> None:
        beans = await shop.product("B-1", on_hand=5)
        ghost = pb.Product(product_id=NOBODY)
        await refused(shop.reserve(order(), (beans, 1), (ghost, 1)), NOT_FOUND, "PRODUCT_NOT_FOUND")
        line = pb.ReserveLine(product_id=beans.product_id, quantity=1, warehouse_id=NOBODY)
        request = pb.ReserveStockRequest(order_id=order(), lines=[line])
        await refused(shop.inventory.ReserveStock(request), NOT_FOUND, "WAREHOUSE_NOT_FOUND")
        assert (await shop.available(beans)).available_quantity == 5

    @pytest.mark.parametrize("quantity", [0, -1, 1_000_001, 2**63 - 1])
    async def test_a_quantity_out_of_range_is_refused(self, shop: Shop, quantity: int) -> None:
        beans = await shop.product("B-1", on_hand=5)
        await refused(shop.reserve(order(), (beans, quantity)), INVALID, "INVALID_REQUEST")

    async def test_ids_of_the_wrong_shape_and_no_lines_are_refused_together(self, shop: Shop) -> None:
        request = pb.ReserveStockRequest(order_id="1")
        error = await refused(shop.inventory.ReserveStock(request), INVALID, "INVALID_REQUEST")
        bad = status.detail(error, BadRequest)
        assert bad is not None
        assert {violation.field for violation in bad.field_violations} == {"order_id", "lines"}

    async def test_fifty_orders_at_once_for_ten_pieces_get_exactly_ten(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        beans = await shop.product("B-1", on_hand=10)
        outcomes = await asyncio.gather(
            *(shop.reserve(order(), (beans, 1)) for _ in range(50)), return_exceptions=True
        )
        held = [outcome for outcome in outcomes if isinstance(outcome, pb.Reservation)]
        reasons = [status.reason(outcome) for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(held) == 10
        assert reasons == ["OUT_OF_STOCK"] * 40
        await asyncio.gather(*(shop.commit(hold.order_id) for hold in held))
        assert (await shop.available(beans)).available_quantity == 0
        figures = check_invariants()
        assert figures["stock.orders"]["committed"] == 10
        assert figures["stock.orders"]["refused"] == 40

    async def test_reserve_and_release_of_one_order_at_once_hold_nothing_in_the_end(
        self, shop: Shop, check_invariants: Figures
    ) -> None:
        beans = await shop.product("B-1", on_hand=100)
        orders = [order() for _ in range(10)]
        await asyncio.gather(
            *(call for each in orders for call in (shop.reserve(each, (beans, 1)), shop.release(each))),
            return_exceptions=True,
        )
        assert (await shop.available(beans)).available_quantity == 100
        check_invariants()
