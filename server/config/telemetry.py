"""What the agent tells of itself: logs and traces."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from server.config.fields import HttpUrl, Port


class TelemetrySettings(BaseModel):
    log_format: Literal["auto", "human", "json"] = Field(
        default="auto", description="human, json, or auto: human on a terminal, else json"
    )
    otel_exporter_otlp_endpoint: HttpUrl | None = Field(
        default=None, description="the http(s) base address of an OTLP collector, or leave it out"
    )
    worker_metrics_port: Port | None = Field(
        default=None, description="a free port, 0 to 65535, or leave it out"
    )
