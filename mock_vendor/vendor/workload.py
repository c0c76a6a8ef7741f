"""The job: a bigram language model, trained in plain Python.

Small (some milliseconds an epoch) but real: the losses are what it computed, it learns, and the
same seed gives the same weights to the last bit, also across restarts.
"""

import hashlib
import json
import math
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

CORPUS: Final = (
    "an agent rents a gpu for an hour and pays the vendor in advance. "
    "if the gpu dies it takes its checkpoint and rents another. "
)
ALPHABET: Final = "".join(sorted(set(CORPUS)))
DEFAULT_LEARNING_RATE: Final = 0.5
MAX_EPOCHS: Final = 10_000
_INITIAL_SPREAD: Final = 0.01


@dataclass(frozen=True)
class Training:
    """The state of a run. `weights[i][j]`: the score of letter j after letter i."""

    seed: int
    learning_rate: float
    weights: tuple[tuple[float, ...], ...]
    losses: tuple[float, ...] = ()
    """The mean cross-entropy (nats a letter) of each epoch so far."""

    @property
    def epochs_done(self) -> int:
        """How many epochs have run."""
        return len(self.losses)


def start(seed: int, learning_rate: float = DEFAULT_LEARNING_RATE) -> Training:
    """Return a fresh model with small random weights."""
    rng = random.Random(seed)
    size = len(ALPHABET)
    rows = (tuple(rng.gauss(0, _INITIAL_SPREAD) for _ in range(size)) for _ in range(size))
    return Training(seed, learning_rate, tuple(rows))


def run_epoch(training: Training) -> Training:
    """Return the model after one pass of stochastic gradient descent over the corpus."""
    letters = [ALPHABET.index(c) for c in CORPUS]
    pairs = list(pairwise(letters))
    random.Random(f"{training.seed} {training.epochs_done}").shuffle(pairs)
    weights = [list(row) for row in training.weights]
    total = 0.0
    for first, second in pairs:
        row = weights[first]
        top = max(row)
        shares = [math.exp(score - top) for score in row]
        scale = sum(shares)
        total -= math.log(shares[second] / scale)
        step = training.learning_rate / scale
        for letter, share in enumerate(shares):
            row[letter] -= step * share
        row[second] += training.learning_rate
    return Training(
        training.seed,
        training.learning_rate,
        tuple(tuple(row) for row in weights),
        (*training.losses, total / len(pairs)),
    )


def dump(training: Training) -> bytes:
    """Serialise a state exactly; equal states give equal bytes. The checkpoint's file format."""
    document = {
        "model": "bigram-softmax",
        "alphabet": ALPHABET,
        "seed": training.seed,
        "learningRate": training.learning_rate,
        "epochs": training.epochs_done,
        "losses": training.losses,
        "weights": training.weights,
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def load(data: bytes) -> Training:
    """Read back what `dump` wrote. Raises KeyError or ValueError on anything else."""
    document = json.loads(data)
    return Training(
        int(document["seed"]),
        float(document["learningRate"]),
        tuple(tuple(map(float, row)) for row in document["weights"]),
        tuple(map(float, document["losses"])),
    )


def artifact(training: Training) -> bytes:
    """Return the finished model's file: its weights and metrics."""
    document = json.loads(dump(training)) | {"metrics": metrics(training)}
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def metrics(training: Training) -> dict[str, Any]:
    """Return what the run achieved, for `finalMetrics`."""
    return {
        "epochs": training.epochs_done,
        "firstLoss": training.losses[0] if training.losses else None,
        "finalLoss": training.losses[-1] if training.losses else None,
    }


def digest(data: bytes) -> str:
    """Return a file's sha256, in hex."""
    return hashlib.sha256(data).hexdigest()
