"""Every RPC, message and event of the house says all that the house reads from it."""

import pytest

from tests.protos.rules import RULES, Rule
from tests.protos.world import World, built_by_buf


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> World:
    return built_by_buf(tmp_path_factory.mktemp("protos"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(house: World, rule: Rule) -> None:
    assert list(rule(house)) == []


def test_the_rules_look_at_all_five_services_and_at_what_each_of_them_serves(house: World) -> None:
    packages = {service.file.package for service in house.services()}
    assert packages == {
        f"bodega.{name}.v1" for name in ("user", "inventory", "order", "payment", "notification", "operator")
    }
    assert len(list(house.methods())) >= 30
    assert len(house.comments) >= 300
