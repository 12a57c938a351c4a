"""Imports point one way: kernel ← chassis ← services, gateway ← command line. What decides is pure."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVICES = {"user", "inventory", "order", "payment", "notification"}

# What decides in each service: no clock, randomness, logging, async or protobuf.
PURE = {
    "user": {"activation", "domain", "key_schedule", "lockout", "sessions"},
    "inventory": {"catalog", "stock", "reservation", "restock", "returns", "warehouse"},
    "order": {"domain", "facts", "refusals"},
    "payment": {"decisions", "domain", "facts", "ledger", "refusals"},
    "notification": {"domain"},
}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def sources(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def imports(source: str) -> Iterator[str]:
    """Every module a source imports, wherever in it; of `from a import b` both a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden(module: str, imported: str) -> str | None:
    """Why `module` must not import this; None if it may."""
    parts, target = module.split("."), imported.split(".")
    if parts[:2] == ["services", "cli"]:
        return None  # the command line may look anywhere
    if target[:2] == ["services", "cli"]:
        return "only the command line imports the command line"
    if parts[0] == "gateway":
        return "the gateway knows services by their stubs" if _service(target) else None
    if target[0] == "gateway":
        return "no service knows the gateway"
    if parts[:2] == ["services", "kernel"]:
        if target[0] in sys.stdlib_module_names or target[:2] == ["services", "kernel"]:
            return None
        return None if target == ["services"] else "the kernel imports the standard library only"
    if parts[:2] == ["services", "chassis"]:
        if _service(target):
            return "the chassis knows nothing of commerce"
        return "the chassis knows the policy's and the operator's contracts" if _contract(target) else None
    own = _service(parts)
    if own and _service(target) not in (None, own):
        return "services know each other by their stubs"
    if own and len(parts) > 2 and parts[2] in PURE[own]:
        return _forbidden_in_domain(own, target)
    return None


def _forbidden_in_domain(own: str, target: list[str]) -> str | None:
    if target[0] in sys.stdlib_module_names - {"asyncio", "random", "logging", "time", "secrets", "uuid"}:
        return None
    if target[:2] == ["services", "kernel"] or target in (["services"], ["services", own]):
        return None
    if target[:2] == ["services", own] and len(target) > 2 and target[2] in PURE[own]:
        return None
    return "what decides is pure"


def _service(parts: list[str]) -> str | None:
    return parts[1] if parts[0] == "services" and len(parts) > 1 and parts[1] in SERVICES else None


def _contract(target: list[str]) -> bool:
    return target[0] == "bodega" and target[1:2] not in ([], ["policy"], ["operator"])


@pytest.mark.parametrize("file", sources("services", "gateway"), ids=module_of)
def test_imports_point_one_way(file: Path) -> None:
    module = module_of(file)
    wrong = {
        f"{module} imports {imported}: {why}"
        for imported in imports(file.read_text(encoding="utf-8"))
        if (why := forbidden(module, imported))
    }
    assert not wrong


def test_what_decides_is_where_this_test_looks_for_it() -> None:
    for service, modules in PURE.items():
        for module in modules:
            assert (ROOT / "services" / service / f"{module}.py").exists(), f"{service} has no {module}.py"


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("services.kernel.money", "services.chassis.context"),
        ("services.kernel.money", "grpc"),
        ("services.chassis.app", "services.order.domain"),
        ("services.chassis.app", "bodega.order.v1.order_pb2"),
        ("services.order.saga", "services.payment.domain"),
        ("services.order.domain", "grpc"),
        ("services.order.domain", "asyncio"),
        ("services.order.domain", "services.chassis.context"),
        ("services.order.domain", "services.order.store"),
        ("services.order.domain", "bodega.order.v1.order_pb2"),
        ("services.order.saga", "gateway.app"),
        ("services.order.saga", "services.cli.up"),
        ("gateway.app", "services.order.domain"),
        ("gateway.app", "services.cli.up"),
    ],
)
def test_the_rules_refuse_what_they_should(module: str, imported: str) -> None:
    assert forbidden(module, imported)
