import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted

from logitlab import transforms

plain = functions(transforms)

NONE = np.array([[-1], [-1]])


def table(z):
    """A model whose logits depend on the last token that it has read."""
    z = jnp.asarray(z)

    def own(logits, tokens, state, *, key=None):
        last = jnp.where(tokens[:, -1] >= 0, tokens[:, -1], state)
        return z[last], last

    return transforms.Processor(lambda batch: jnp.zeros(batch, jnp.int32), own)


def draw(seed, *shape):
    return (np.random.default_rng(seed).normal(size=shape) * 2).astype("f4")


def steps(processor, z, tokens):
    state, outs = processor.init(len(z)), []
    step = interpreted(processor.apply)
    for column in tokens.T:
        out, state = step(z, column[:, None], state)
        outs.append(out)
    return np.stack(outs)


def test_guiders_read_the_tokens():
    z, guider, base = draw(0, 2, 4), draw(1, 4, 4), draw(2, 4, 4)
    tokens = np.array([[1, 3], [2, 2]])
    got = steps(transforms.guide(table(guider), table(base), alpha=0.5), z, tokens)
    for out, last in zip(got, tokens.T, strict=True):
        want = plain.proxy_logits(z, guider[last], base[last], alpha=0.5)
        np.testing.assert_allclose(out, want, rtol=1e-6)
    token_map = np.array([2, 1, -1, 0])
    small = [table(draw(i, 3, 3)) for i in (3, 4)]
    got = steps(
        transforms.guide(*small, token_map=token_map, unknown=1),
        z,
        np.array([[0, 2], [3, 2]]),
    )
    for out, last in zip(got, ([2, 0], [1, 1]), strict=True):
        want = plain.proxy_logits(
            z, draw(3, 3, 3)[last], draw(4, 3, 3)[last], token_map=token_map
        )
        np.testing.assert_allclose(out, want, rtol=1e-6)


def test_classifier_free_guidance():
    z, free = draw(0, 2, 4), draw(1, 4, 4)
    got, _ = (
        processor := transforms.guide_classifier_free(table(free), scale=3.0)
    ).apply(z, NONE, processor.init(2))
    want = plain.classifier_free_guidance(z, free[[0, 0]], 3.0)
    np.testing.assert_allclose(
        jax.nn.log_softmax(got), jax.nn.log_softmax(want), atol=1e-5
    )


def test_experts_are_fused():
    z, base, experts = draw(0, 2, 4), draw(1, 4, 4), draw(2, 2, 4, 4)
    processor = transforms.fuse_experts(table(base), [table(e) for e in experts])
    got = steps(processor, z, np.array([[1], [2]]))
    want = plain.dynamic_logit_fusion(z, base[[1, 2]], experts[:, [1, 2]])
    np.testing.assert_allclose(got[0], want.logits, rtol=1e-5)


def alphas(schedule, columns, overridden=None, rows=1):
    state, found = schedule.init(rows), []
    for i, tokens in enumerate(columns):
        alpha, state = schedule.alpha(state, np.array(tokens), key=jax.random.key(i))
        state = schedule.note(state, np.array([bool(overridden and overridden[i])]))
        found.append(float(alpha[0]))
    return found


def test_schedules():
    prompt, one = [[1, 1, 1]], [[2]]
    columns = [prompt, *[one] * 7]
    make = transforms.alpha_schedule
    assert alphas(make("constant", alpha=0.5), columns) == [0.5] * 8
    assert alphas(make("warmup", warmup=3), columns) == [0, 0, 0, 1, 1, 1, 1, 1]
    assert alphas(make("cycle", period=2), columns) == [0, 0, 1, 1, 0, 0, 1, 1]
    assert alphas(make("two_cycles", off=3, on=1), columns) == [0, 0, 0, 1] * 2
    # the guider changes the likeliest token at steps 3 and 7, off it cannot
    annealing = make("override_annealing", warmup=2)
    overridden = [True, False, False, True, True, False, False, False]
    assert alphas(annealing, columns, overridden) == [0, 0, 1, 1, 0, 0, 1, 1]
    thinking = make("ppt", thinking_tokens=[2], most_thoughts=1)
    assert alphas(thinking, [[[2, 2]], one, [[3]], one, one]) == [1, 1, 1, 0, 0]
    chance = [alphas(make("random", probability=p), columns) for p in (0.0, 0.5, 1.0)]
    assert chance[0] == [0] * 8
    assert chance[2] == [1] * 8
    assert 0 < sum(chance[1]) < 8


def test_a_schedule_guides():
    z, guider, base = draw(0, 2, 4), draw(1, 4, 4), draw(2, 4, 4)
    late = transforms.alpha_schedule("warmup", warmup=1)
    processor = transforms.guide(table(guider), table(base), alpha=late)
    got = steps(processor, z, np.array([[1, 3], [2, 2]]))
    np.testing.assert_array_equal(got[0], z)
    assert (got[1] != z).any(-1).all()


def test_bad_arguments():
    make = transforms.alpha_schedule
    two = table(draw(0, 4, 4))
    for call, message in (
        (lambda: make("linear"), "kind is 'linear'"),
        (lambda: make("cycle", period=0), "period is 0"),
        (lambda: make("random", probability=2.0), "probability is 2.0"),
        (lambda: make("ppt"), "thinking_tokens is empty"),
        (
            lambda: make("random").alpha(make("random").init(1), np.array([[1]])),
            "key is None",
        ),
        (lambda: transforms.fuse_experts(two, []), "experts is empty"),
        (
            lambda: steps(
                transforms.guide(two, two, alpha=np.zeros(3)), draw(0, 2, 4), NONE
            ),
            "alpha has shape",
        ),
        (
            lambda: steps(transforms.guide(two, two), draw(0, 2, 5), NONE),
            "guider_logits has 4 classes",
        ),
        (
            lambda: steps(
                transforms.guide(two, two, token_map=[0]), draw(0, 2, 4), NONE
            ),
            "token_map has shape",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
