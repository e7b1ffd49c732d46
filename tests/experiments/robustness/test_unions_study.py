import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.interpreter import interpreted

from experiments.robustness import union
from logitlab import optim


def test_branches_meet_after_every_epoch():
    """Three steps of SGD apart, then on from the merge."""
    transform = optax.chain(optax.sgd(1.0), union.merged_every(3, 0.5))
    start = jnp.array([1.0, 2.0])
    slopes = {"natural": jnp.array([1.0, 0.0]), "adversarial": jnp.array([1.0, -1.0])}

    def walk(params):
        state, path = transform.init(params), []
        for _ in range(4):
            moves, state = transform.update(slopes, state, params)
            params = optax.apply_updates(params, moves)
            path.append(params)
        return path

    path = interpreted(walk)({"natural": start, "adversarial": start})
    for i in range(2):
        for name, slope in slopes.items():
            np.testing.assert_allclose(path[i][name], start - (i + 1) * slope)
    merged = optim.gradient_projection_merge(
        *(start - 3 * s for s in (jnp.zeros(2), *slopes.values())), beta=0.5
    )
    for name, slope in slopes.items():
        np.testing.assert_allclose(path[2][name], merged, rtol=1e-6)
        np.testing.assert_allclose(path[3][name], merged - slope, rtol=1e-6)


def test_what_cannot_be_run_is_not_built(refused):
    refused("robustness:union", "arms", ("maxx",), "did you mean max")
    refused("robustness:union", "batch_size", 2000, "config.batch_size is 2000")
    refused("robustness:comp_sum", "nus", (0.0, 1.0), "config.nus is")
    refused("robustness:comp_sum", "baselines", ("pdg",), "did you mean pgd")


@pytest.mark.slow  # attacks in three norms take long to compile
def test_union_end_to_end(run_study):
    done = run_study("robustness:union", seeds=1)
    assert done.figures == ["price"]
    for arm in done.results.values():
        for name in union.NORMS:
            assert arm.final(union.UNION) <= arm.final(f"robust/{name}")


def test_comp_sum_end_to_end(run_study):
    done = run_study("robustness:comp_sum", seeds=1)
    assert done.figures == ["price"]
    for arm in done.results.values():
        assert arm.final("robust/inf") <= arm.final("accuracy")
