"""Where spans go, and of which requests."""

import re
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

_ENDPOINT: Final = re.compile(r"https?://[^\s/@?#]+/?")


class TracingSettings(BaseModel):
    """What a program is told about tracing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    otlp_endpoint: str = ""
    """A collector that speaks OTLP over gRPC, e.g. `http://localhost:4317`; https is TLS. Empty: no spans."""

    sample_ratio: float = Field(default=0.05, ge=0, le=1)
    """Of how many requests whose first hop this is, the browsers' and guests' own, spans are written."""

    slow_s: float = Field(default=1.0, gt=0)
    """Calls that take this long have a span in any case, and so have those that fail."""

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_an_endpoint(cls, value: str) -> str:
        # Whoever needs a password gives it as a header, in OTEL_EXPORTER_OTLP_HEADERS.
        if value and not _ENDPOINT.fullmatch(value):
            raise ValueError("must be like http://localhost:4317, without path, name or password")
        return value

    @property
    def ratio(self) -> float:
        """The ratio in force: who cannot export does not ask others to."""
        return self.sample_ratio if self.otlp_endpoint else 0.0
