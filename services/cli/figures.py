"""The figures on a program's page of metrics that people are shown, whatever else is on it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from services.chassis.discovery import TEXT_MAX
from services.chassis.policy.circuit import State

FIGURES_MAX: Final = 1000  # of those that interest us: a service has some twenty, and reading them takes time

_SIDES: Final = ("grpc_server", "http_server")  # a service's and the edge's
_OF_CIRCUIT: Final = ("target", "grpc_service", "grpc_method")
_SHOWN: Final = (
    *("bodega_", "consumer_lag_events", "outbox_", "writer_transactions", "grpc_client_circuit_state"),
    *(f"{side}_{figure}" for side in _SIDES for figure in ("limit", "shed_total")),
)


@dataclass(frozen=True, slots=True)
class Circuit:
    """A method of somebody's that failed too often, and is not called for now, or only to see how it is."""

    target: str
    service: str
    method: str
    state: str
    """`open` or `half open`."""

    def __str__(self) -> str:
        return f"{self.service}/{self.method} at {self.target} (circuit {self.state})"


@dataclass(frozen=True, slots=True)
class Load:
    """How many calls a program works on, of how many at most, and how many it refused since it began."""

    calls: float
    limit: float
    shed: Mapping[str, float]
    """By priority."""

    @property
    def refused(self) -> float:
        return sum(self.shed.values())


@dataclass(slots=True)
class Figures:
    """What a page says; what it does not say is None, or not there."""

    consumer_lags: dict[str, float] = field(default_factory=dict)
    left_alone: list[Circuit] = field(default_factory=list)
    shed: dict[str, float] = field(default_factory=dict)
    version: str = ""
    _plain: dict[str, float] = field(default_factory=dict)

    def get(self, name: str) -> float | None:
        found = self._plain.get(name)
        return None if found is None or math.isnan(found) else found

    @property
    def load(self) -> Load | None:
        for side in _SIDES:
            calls, limit = self.get(f"{side}_limited"), self.get(f"{side}_limit")
            if calls is not None and limit is not None:
                return Load(calls, limit, self.shed)
        return None

    def note(self, name: str, labels: Mapping[str, str], value: float) -> None:
        match name:
            case "bodega_build_info":
                self.version = labels.get("version", "")
            case "consumer_lag_events":
                self.consumer_lags[labels.get("consumer", "")] = value
            case "grpc_server_shed_total" | "http_server_shed_total":
                self.shed[labels.get("priority", "")] = value
            case "grpc_client_circuit_state":
                self._note_circuit(labels, value)
            case _ if not labels:
                self._plain[name] = value

    def _note_circuit(self, labels: Mapping[str, str], value: float) -> None:
        if value in (State.HALF_OPEN, State.OPEN):
            target, service, method = (labels.get(name, "") for name in _OF_CIRCUIT)
            state = State(int(value)).name.lower().replace("_", " ")
            self.left_alone.append(Circuit(target, service, method, state))


def read(page: str) -> Figures:
    """What a page in Prometheus' text format says; nothing, if that is not what it is."""
    found = Figures()
    try:
        for family in text_string_to_metric_families("\n".join(_shown(page))):
            for sample in family.samples:
                labels = {name: printable(value) for name, value in sample.labels.items()}
                found.note(sample.name, labels, float(sample.value))
    except Exception:  # noqa: BLE001 (the parser's ways to fail are many, and the page is not ours)
        return Figures()
    return found


def printable(text: str) -> str:
    """Text of others as people may see it: of bounded length, and it commands no terminal."""
    shown = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:TEXT_MAX]
    )
    return shown if len(text) <= TEXT_MAX else f"{shown}…"


def _shown(page: str) -> Iterable[str]:
    lines = [line for line in page.split("\n") if line.startswith(_SHOWN)]
    return lines[:FIGURES_MAX]
