"""How an API key is made: said wherever one is asked for."""

from __future__ import annotations

from typing import Final

MAKE_A_KEY: Final = (
    "gpu-renter keys create --owner YOU --scope start --scope tick --scope read --scope approve"
)
"""A key for one person, who may do all that a page or a command does with runs."""
