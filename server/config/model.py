"""The settings of the model that plans: which, and what it may take of time and tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from domain.errors import ConfigError
from server.config.fields import Dollars, HttpUrl, Seconds

PlannerMode = Literal["stub", "llm"]


class ModelSettings(BaseSettings):
    """Who plans; and how long, and how much of it, a model is asked before the ranking decides."""

    planner_mode: Annotated[PlannerMode, BeforeValidator(str.lower)] = Field(
        default="stub", description="stub (deterministic ranking) or llm (Fireworks)"
    )
    fireworks_api_key: SecretStr | None = Field(default=None, description="an API key of Fireworks")
    fireworks_api_base: HttpUrl | None = Field(
        default=None, description="another base address of the Fireworks API"
    )
    fireworks_model: str = Field(
        default="accounts/fireworks/models/glm-5p3-flash", description="a model that can call tools"
    )
    fireworks_timeout_s: Seconds = Field(
        default=30.0, description="seconds for all model calls of one decision, up to 3600"
    )
    fireworks_tokens_per_decision: int = Field(
        default=40_000, ge=1, le=10_000_000, description="the most tokens of one decision"
    )
    fireworks_tokens_per_run: int = Field(
        default=400_000, ge=1, le=1_000_000_000, description="the most tokens of one run"
    )
    fireworks_tokens_per_user_day: int = Field(
        default=4_000_000, ge=1, le=1_000_000_000, description="the most tokens of a user in a day"
    )
    fireworks_price_in_usd: Dollars | None = Field(
        default=None, description="dollars for a million tokens read, or leave it out"
    )
    fireworks_price_out_usd: Dollars | None = Field(
        default=None, description="dollars for a million tokens written, or leave it out"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_planner(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("PLANNER_MODE") is None:
            given = {name: value for name, value in given.items() if name != "PLANNER_MODE"}
            if not given.get("FIREWORKS_API_KEY") and given.get("FIREWORKS_API_BASE"):
                raise ConfigError(
                    "FIREWORKS_API_KEY",
                    "it is missing, but FIREWORKS_API_BASE is set",
                    "Set it, or PLANNER_MODE=stub",
                )
            if given.get("FIREWORKS_API_KEY"):
                return {**given, "PLANNER_MODE": "llm"}
        return given

    @model_validator(mode="after")
    def _whole_model(self) -> Self:
        """Raise ConfigError for a model without a key."""
        if self.planner_mode == "llm" and self.fireworks_api_key is None:
            raise ConfigError(
                "FIREWORKS_API_KEY",
                "it is missing, but PLANNER_MODE is llm",
                "Set it, or PLANNER_MODE=stub",
            )
        return self
