"""Where spans go, and of which requests."""

from pydantic import BaseModel, ConfigDict, Field


class TracingSettings(BaseModel):
    """What a program is told about tracing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    otlp_endpoint: str = Field(default="", pattern=r"^(https?://[^\s/@]+/?)?$")
    """A collector that speaks OTLP over gRPC, e.g. `http://localhost:4317`; https is TLS. Empty: no spans."""

    sample_ratio: float = Field(default=0.05, ge=0, le=1)
    """Of how many requests whose first hop this is, the browsers' and guests' own, spans are written."""

    slow_s: float = Field(default=1.0, gt=0)
    """Calls that take this long have a span in any case, and so have those that fail."""

    @property
    def ratio(self) -> float:
        """The ratio in force: who cannot export does not ask others to."""
        return self.sample_ratio if self.otlp_endpoint else 0.0
