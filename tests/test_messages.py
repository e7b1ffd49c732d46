"""What a mistake is answered with: the argument, what came, what was expected."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import (
    heads,
    links,
    losses,
    metrics,
    numerics,
    rl,
    sequences,
    transforms,
)

Z = jnp.float32([[2, 1, 0], [0, 1, 2]])
Y = jnp.array([0, 2])
IDS, ONE_HOT = Y.astype(float), jax.nn.one_hot(Y, 3, dtype=int)
H, KERNEL = jnp.ones((2, 4)), jnp.ones((4, 3))
PARAMS = {"kernel": KERNEL, "bias": jnp.ones(3)}
LOGPS = jnp.zeros(2)
DISTILL = functools.partial(heads.fused_linear_distillation, H, KERNEL)
FUSED = heads.fused_linear_cross_entropy

# What is called, and every part of the answer.
MISTAKES = {
    "float ids, a loss of distributions": (
        lambda: losses.cross_entropy(Z, IDS),
        ValueError,
        "labels has shape (2,), expected (2, 3), as labels of dtype float32 are "
        "distributions over classes; class ids are integers: labels.astype(int)",
    ),
    "float ids, a weighted loss": (
        lambda: losses.focal_loss(Z, IDS, jnp.ones(3)),
        ValueError,
        "labels has shape (2,), expected (2, 3), as labels of dtype float32 are",
    ),
    "float ids, a distillation loss": (
        lambda: losses.nkd_loss(Z, Z, IDS),
        ValueError,
        "class ids are integers: labels.astype(int)",
    ),
    "float ids, a loss of ids": (
        lambda: losses.multiclass_hinge_loss(Z, IDS),
        TypeError,
        "labels has dtype float32, expected integers; whole numbers can be cast: "
        "labels.astype(int)",
    ),
    "float ids, a head": (
        lambda: FUSED(H, KERNEL, IDS),
        TypeError,
        "labels has dtype float32, expected integers; whole numbers can be cast",
    ),
    "float tokens": (
        lambda: sequences.token_log_prob(Z, IDS),
        TypeError,
        "has dtype float32, expected integers; whole numbers can be cast",
    ),
    "swapped": (
        lambda: losses.cross_entropy(Y, Z),
        TypeError,
        "logits has dtype int32, expected floating point; logits come before labels",
    ),
    "swapped, a metric": (
        lambda: metrics.accuracy(Y, Z),
        TypeError,
        "logits has dtype int32, expected floating point; logits come before labels",
    ),
    "swapped, a distillation loss": (
        lambda: losses.dkd_loss(Y, Z, Z),
        TypeError,
        "student_logits has dtype int32, expected floating point; logits come before",
    ),
    "one-hot ints": (
        lambda: losses.cross_entropy(Z, ONE_HOT),
        ValueError,
        "labels has shape (2, 3), expected (2,), class ids; labels.argmax(-1) are "
        "those of one-hot labels",
    ),
    "one-hot ints, a head": (
        lambda: FUSED(H, KERNEL, ONE_HOT),
        ValueError,
        "labels has shape (2, 3), expected (2,), class ids; labels.argmax(-1)",
    ),
    "None, a checked number": (
        lambda: losses.kd_loss(Z, Z, temperature=None),
        TypeError,
        "temperature is None, expected a number (",
    ),
    "None, any number": (
        lambda: losses.bradley_terry_loss(LOGPS, LOGPS, margin=None),
        TypeError,
        "margin is None, expected a number",
    ),
    "None, a weight": (
        lambda: losses.dkd_loss(Z, Z, Y, beta=None),
        TypeError,
        "beta is None, expected a number",
    ),
    "None, a bound": (
        lambda: losses.two_hot_loss(Z, LOGPS, vmin=None, vmax=1.0),
        TypeError,
        "vmin is None, expected a number",
    ),
    "None, a static number": (
        lambda: losses.fenchel_young_loss(Z, Y, alpha=None),
        TypeError,
        "alpha is None, expected a number (at least 1)",
    ),
    "None, a transform": (
        lambda: transforms.amplify(Z, scale=None),
        TypeError,
        "scale is None, expected a number",
    ),
    "text": (
        lambda: losses.focal_loss(Z, Y, gamma="2"),
        TypeError,
        "gamma is '2', expected a number (",
    ),
    "no logits": (
        lambda: losses.cross_entropy(None, Y),
        TypeError,
        "logits is None, expected an array",
    ),
    "no labels": (
        lambda: losses.cross_entropy(Z, None),
        TypeError,
        "labels is None, expected an array",
    ),
    "no teacher": (
        lambda: losses.kd_loss(Z, None),
        TypeError,
        "teacher_logits is None, expected an array",
    ),
    "no labels of yes and no": (
        lambda: losses.sigmoid_cross_entropy(Z, None),
        TypeError,
        "labels is None, expected an array",
    ),
    "no log-probabilities": (
        lambda: losses.dpo_loss(LOGPS, LOGPS, None, LOGPS),
        TypeError,
        "ref_chosen_logps is None, expected an array",
    ),
    "no logits, a link": (
        lambda: links.stablemax(None),
        TypeError,
        "logits is None, expected an array",
    ),
    "no rewards": (
        lambda: rl.group_advantages(None),
        TypeError,
        "rewards is None, expected an array",
    ),
    "a teacher's logits": (
        lambda: DISTILL(Z),
        TypeError,
        "expected heads.Linear(hidden, kernel, bias); for logits that exist, call "
        "heads.linear_loss(losses.kd_loss, hidden, kernel, teacher_logits)",
    ),
    "a tuple": (
        lambda: heads.linear_loss(losses.kd_loss, H, KERNEL, (H, KERNEL)),
        TypeError,
        "arrays[0] is of type tuple, expected an array; a head is "
        "heads.Linear(hidden, kernel, bias)",
    ),
    "a tuple of equal shapes": (
        lambda: heads.linear_loss(losses.kd_loss, H, KERNEL, (KERNEL, KERNEL, KERNEL)),
        ValueError,
        "a head is heads.Linear(hidden, kernel, bias)",
    ),
    "parameters": (
        lambda: FUSED(H, PARAMS, Y),
        TypeError,
        "kernel is a dictionary with the keys 'kernel', 'bias', expected an array; "
        "pass one of its entries",
    ),
    "parameters, any loss": (
        lambda: heads.linear_loss(losses.cross_entropy, H, PARAMS, Y),
        TypeError,
        "kernel is a dictionary with the keys 'kernel', 'bias'",
    ),
    "parameters, a sampled head": (
        lambda: heads.sampled_softmax(jax.random.key(0), H, PARAMS, Y, num_sampled=2),
        TypeError,
        "kernel is a dictionary with the keys 'kernel', 'bias'",
    ),
    "a teacher's parameters": (
        lambda: DISTILL(heads.Linear(H, PARAMS)),
        TypeError,
        "teacher.kernel is a dictionary with the keys 'kernel', 'bias'",
    ),
    "a mask": (
        lambda: FUSED(H, KERNEL, Y, mask=Y > 0),
        TypeError,
        "fused_linear_cross_entropy takes no mask; it returns one number for each "
        "token, of which logitlab.numerics.masked_mean(losses, mask) takes the mean, "
        "and where= hides classes",
    ),
    "a mask, any loss": (
        lambda: heads.linear_loss(losses.kd_loss, H, KERNEL, Z, mask=Y > 0),
        TypeError,
        "linear_loss takes no mask; weights= leaves tokens out of a weighted mean",
    ),
    "a mask as where": (
        lambda: FUSED(H, KERNEL, Y, where=Y > 0),
        ValueError,
        "where has shape (2,), expected (3,) or (2, 3): it hides classes; a mask",
    ),
    "a number of another loss": (
        lambda: heads.spherical_stats_loss(2.0, 5.0, 3.0, num_classes=3, eps=1e-6),
        TypeError,
        "eps is 1e-06, expected none: spherical_z_loss has no eps",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    call, error, text = MISTAKES[name]
    with pytest.raises(error, match=re.escape(text)):
        jax.eval_shape(call)  # which compiles nothing on the way


def test_heads_that_hide_classes_say_so_of_a_mask():
    for head in (
        heads.fused_linear_distillation,
        heads.label_stats,
        heads.linear_label_loss,
        heads.linear_label_stats,
        heads.vocab_parallel_label_stats,
    ):
        with pytest.raises(TypeError, match=f"{head.__name__} takes no mask"):
            head(mask=Y > 0)


def mesh(devices, names=("data", "model")):
    devices = np.array(devices).reshape(2, 2)
    return Mesh(devices, names, axis_types=(AxisType.Auto,) * 2)


def test_arrays_on_other_devices():
    some, others = mesh(jax.devices()[:4]), mesh(jax.devices()[4:])
    named_else = mesh(jax.devices()[:4], ("rows", "columns"))
    put = lambda a, mesh, *axes: jax.device_put(a, NamedSharding(mesh, P(*axes)))  # noqa: E731
    far = r"lies on the devices \[4, 5, 6, 7\], expected those of {}, \[0, 1, 2, 3\]"
    far += "; jax.device_put"
    for take in (numerics.is_label, numerics.take_label_logit):  # as losses do
        with pytest.raises(ValueError, match="labels " + far.format("logits")):
            take(put(Z, some), put(Y, others))
    hidden, kernel = put(H, some, "data"), put(KERNEL, some)
    h, k, y = put(H, others), put(KERNEL, others), put(Y, others)
    rows = put(H, named_else, "rows")
    loss = functools.partial(heads.linear_loss, losses.cross_entropy)
    distill = heads.fused_linear_distillation
    calls = {
        "hidden " + far.format("kernel"): lambda: FUSED(h, kernel, Y),
        "labels " + far.format("hidden"): lambda: FUSED(hidden, kernel, y),
        r"arrays\[0\] " + far.format("hidden"): lambda: loss(hidden, kernel, y),
        r"teacher\.hidden " + far.format("hidden"): lambda: distill(
            hidden, kernel, heads.Linear(h, k)
        ),
        "hidden is spread over the mesh axis 'rows', expected axes of the mesh of "
        "kernel": lambda: FUSED(rows, kernel, Y),
    }
    for text, call in calls.items():
        with pytest.raises(ValueError, match=text):
            jax.eval_shape(call)


def test_what_was_valid_still_is():
    on_mesh = jax.device_put(Z, NamedSharding(mesh(jax.devices()[:4]), P("data")))
    numerics.check_devices(logits=on_mesh, labels=Y)  # Y may still be moved
    for call in (
        lambda: losses.cross_entropy(Z, jax.nn.one_hot(Y, 3)),
        lambda: losses.focal_loss(Z, Y, gamma=np.float64(2)),
        lambda: heads.linear_loss(losses.cross_entropy, H, KERNEL, (0, 2)),
        lambda: DISTILL((H, KERNEL)),
    ):
        assert jax.eval_shape(call) == jax.ShapeDtypeStruct((2,), jnp.float32)
