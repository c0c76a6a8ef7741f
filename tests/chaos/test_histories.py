"""Random histories of a run: what hypothesis finds in the time that a test run has."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.machine import Histories


@pytest.mark.timeout(180)
def test_the_promises_hold_in_random_histories(mongodb_uri: str) -> None:
    machine = type("Here", (Histories,), {"uri": mongodb_uri})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],  # to shrink takes minutes; the unshrunk history is told
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
