"""Pages of metrics, also such as no program of ours would show."""

import pytest

from services.chassis.discovery import TEXT_MAX
from services.cli import figures
from services.cli.figures import Circuit, Load

PAGE = """\
# HELP bodega_build_info What runs here.
# TYPE bodega_build_info gauge
bodega_build_info{version="0.1.0"} 1.0
bodega_start_time_seconds 1.7e+09
outbox_rows NaN
consumer_lag_events{consumer="notification-order"} 3.0
grpc_server_limit 512.0
grpc_server_limited 2.0
grpc_server_shed_total{priority="critical"} 0.0
grpc_server_shed_total{priority="sheddable"} 7.0
grpc_client_circuit_state{target="payment:1",grpc_service="P",grpc_method="Charge"} 2.0
grpc_client_circuit_state{target="payment:1",grpc_service="P",grpc_method="Refund"} 1.0
grpc_client_circuit_state{target="payment:1",grpc_service="P",grpc_method="Get"} 0.0
something_else{of="no interest"} 1
"""


def test_what_is_shown_is_read_from_all_the_rest() -> None:
    found = figures.read(PAGE)
    assert found.version == "0.1.0"
    assert found.get("bodega_start_time_seconds") == 1.7e9
    assert found.get("outbox_rows") is None
    assert found.consumer_lags == {"notification-order": 3.0}
    assert found.load == Load(2.0, 512.0, {"critical": 0.0, "sheddable": 7.0})
    assert found.load.refused == 7
    assert found.left_alone == [
        Circuit("payment:1", "P", "Charge", "open"),
        Circuit("payment:1", "P", "Refund", "half open"),
    ]


def test_the_edge_has_a_limit_too() -> None:
    found = figures.read(PAGE.replace("grpc_server", "http_server"))
    assert found.load == Load(2.0, 512.0, {"critical": 0.0, "sheddable": 7.0})


@pytest.mark.parametrize(
    "page",
    [
        "",
        "bodega_build_info",
        'bodega_build_info{version="0.1.0" 1.0',
        "outbox_rows many",
        'bodega_build_info{version="\\',
        "<html>bodega_</html>\nbodega_ } {",
        "grpc_client_circuit_state 2.0",
        "grpc_client_circuit_state{} 17",
        "\x00" * 100,
    ],
)
def test_what_is_no_such_page_says_nothing(page: str) -> None:
    found = figures.read(page)
    assert (found.version, found.load, found.consumer_lags) == ("", None, {})
    assert all(circuit.target == "" for circuit in found.left_alone)


def test_labels_command_no_terminal() -> None:
    found = figures.read('consumer_lag_events{consumer="\x1b[2J\u202e\\n%s"} 1' % ("x" * 10_000))
    [name] = found.consumer_lags
    assert name.isprintable()
    assert len(name) <= TEXT_MAX + 1


def test_an_endless_page_is_not_read_to_its_end() -> None:
    page = "\n".join(f'consumer_lag_events{{consumer="{number}"}} 1' for number in range(20_000))
    assert len(figures.read(page).consumer_lags) == figures.FIGURES_MAX
