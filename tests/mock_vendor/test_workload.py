"""The training is real: it learns, and it is the same for the same seed, across restarts too."""

from itertools import pairwise

from mock_vendor.vendor import workload


def trained(seed: int, epochs: int) -> workload.Training:
    training = workload.start(seed)
    for _ in range(epochs):
        training = workload.run_epoch(training)
    return training


def test_the_loss_falls_as_it_learns() -> None:
    losses = trained(seed=1, epochs=8).losses
    assert losses[-1] < losses[0] * 0.7
    assert all(later < earlier for earlier, later in pairwise(losses))


def test_the_same_seed_gives_the_same_artifact_to_the_last_bit() -> None:
    first, again, other = (workload.artifact(trained(seed, 3)) for seed in (1, 1, 2))
    assert workload.digest(first) == workload.digest(again)
    assert workload.digest(first) != workload.digest(other)


def test_a_run_goes_on_from_its_checkpoint_as_if_never_stopped() -> None:
    half = workload.load(workload.dump(trained(1, 2)))
    resumed = workload.run_epoch(workload.run_epoch(half))
    assert workload.dump(resumed) == workload.dump(trained(1, 4))


def test_the_model_has_learned_that_p_follows_g() -> None:
    training = trained(1, 8)
    after_g = training.weights[workload.ALPHABET.index("g")]
    assert workload.ALPHABET[after_g.index(max(after_g))] == "p"
