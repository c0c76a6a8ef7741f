"""The settings that bound what a model may take: time and tokens, and what a token costs."""

from __future__ import annotations

from pydantic import BaseModel, Field

from graph.settings_fields import Dollars, Seconds


class ModelSettings(BaseModel):
    """How long, and how much of it, the model is asked before the ranking decides instead."""

    fireworks_timeout_s: Seconds = Field(
        default=30.0, description="seconds for all model calls of one decision, up to 3600"
    )
    fireworks_tokens_per_decision: int = Field(
        default=40_000, ge=1, le=10_000_000, description="the most tokens of one decision"
    )
    fireworks_tokens_per_run: int = Field(
        default=400_000, ge=1, le=1_000_000_000, description="the most tokens of one run"
    )
    quote_fresh_minutes: float = Field(
        default=60.0, gt=0, le=10_080, description="minutes that a quote is believed, up to 10080"
    )
    fireworks_price_in_usd: Dollars | None = Field(
        default=None, description="dollars for a million tokens read, or leave it out"
    )
    fireworks_price_out_usd: Dollars | None = Field(
        default=None, description="dollars for a million tokens written, or leave it out"
    )
