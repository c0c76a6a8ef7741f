"""hypothesis-jsonschema 0.23 on a newer Hypothesis: the loop that it draws objects with.

It asks `many.more()`, which Hypothesis 6.170 replaced by `with many(…) as elements: for _ in
elements`. The same loop is put back, said in the new way, until the one follows the other.
"""

from __future__ import annotations

import warnings
from typing import Any

from hypothesis.errors import HypothesisWarning
from hypothesis.internal.conjecture import utils


def mend_drawing() -> None:
    """Idempotent, and nothing where Hypothesis still has it."""
    many: Any = utils.many
    if not hasattr(many, "more"):
        many.more = _more
    # Two libraries register the same formats, one over the other.
    warnings.filterwarnings("ignore", "Overriding standard format", HypothesisWarning)


def _more(elements: Any) -> bool:
    """Whether to draw one more element."""
    if elements._depth is None:
        elements.__enter__()
        elements.rounds = iter(elements)
    for _ in elements.rounds:
        return True
    elements.__exit__(None)
    return False
