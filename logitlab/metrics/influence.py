"""Which training examples a prediction comes from: influence functions by EK-FAC.

A model shows its linear layers by *taps*: a function (parameters, taps, batch) ->
(losses [B], layers), where ``layers`` maps the name of each layer to its inputs and
pre-activations, and ``taps`` (or None) maps names to what is added to the latter. Of
Flax models ``models.apply_with_taps`` makes one, with any loss:

    def tapped_loss(params, taps, batch):
        logits, layers = models.apply_with_taps(model, params, taps, batch["x"])
        return losses.cross_entropy(logits, batch["y"]), layers

Factors are sums over examples: those of batches, devices and processes add, by
``jax.tree.map(jnp.add, a, b)`` or ``psum``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean
from logitlab.numerics.arguments import check_count, hyper

__all__ = [
    "EkfacState",
    "LayerCovariances",
    "ekfac_covariances",
    "ekfac_eigenvalues",
    "ekfac_fit",
    "ekfac_ihvp",
    "influence_scores",
    "kfac_state",
]

TappedLoss = Callable[..., tuple[jax.Array, dict[str, tuple[jax.Array, jax.Array]]]]


class LayerCovariances(NamedTuple):
    """Second moments of what goes into a layer, and of the gradients that come back.

    Attributes:
      inputs: of the inputs and a constant 1, a ``Mean`` of [I + 1, I + 1] over tokens.
      outputs: of the gradients of the pre-activations, a ``Mean`` of [O, O] over
        examples.
    """

    inputs: Mean
    outputs: Mean


class EkfacState(NamedTuple):
    """A Gauss-Newton matrix of each layer, in the basis where it is nearly diagonal.

    Attributes:
      input_vectors: name -> eigenvectors [I + 1, I + 1] of ``LayerCovariances.inputs``.
      output_vectors: name -> those [O, O] of ``outputs``.
      eigenvalues: name -> a ``Mean`` of [I + 1, O].
      unit: gradients are kept as multiples of it, so that no square of one rounds to 0.
    """

    input_vectors: dict[str, jax.Array]
    output_vectors: dict[str, jax.Array]
    eigenvalues: dict[str, Mean]
    unit: jax.Array


def ekfac_covariances(
    tapped_loss: TappedLoss,
    params: Any,
    batch: Any,
    *,
    mask: ArrayLike | None = None,
    key: jax.Array | None = None,
    unit: ArrayLike = 1.0,
) -> dict[str, LayerCovariances]:
    r"""Kronecker factors of the layers from one batch, which add up over batches.

    .. math:: A = E[\bar a \bar a^T], \quad S = E[g g^T], \quad
        g = \frac{\partial \ell}{\partial s}

    with the inputs of a layer followed by a 1, and its pre-activations s.

    Args:
      tapped_loss: see ``logitlab.metrics.influence``; each loss must depend on its own
        example alone. With ``key`` it takes one as a fourth argument.
      params: its first argument.
      batch: an array or a tree of arrays [B, ...].
      mask: bool, the examples [B] that count, or tokens [B, T].
      key: of ``jax.random``, for labels that are drawn from the model: that makes the
        Fisher information of it. Labels of the data make the "empirical" Fisher.
      unit: gradients are divided by it, see ``EkfacState``.

    Returns:
      Name of the layer -> ``LayerCovariances``, float32 (float64 for float64).

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: ``tapped_loss`` does not return one loss for each example and layers
        of two arrays, or there are no layers.

    Source: George et al. 2018, arXiv:1806.03884; Grosse et al. 2023, arXiv:2308.03296.
    """
    layers, keep = _taps(tapped_loss, params, batch, mask, key)
    found = {}
    for name, (a, g) in layers.items():
        g = g / jnp.asarray(unit, g.dtype)
        shown = jnp.broadcast_to(_beside(keep, a), (*a.shape[:-1], 1))
        rows = keep.reshape(len(keep), -1).any(1)
        found[name] = LayerCovariances(
            Mean(_outer(a), jnp.sum(shown)), Mean(_outer(g), jnp.sum(rows))
        )
    return found


def kfac_state(
    covariances: dict[str, LayerCovariances], *, unit: ArrayLike = 1.0
) -> EkfacState:
    r"""Eigenvectors of the factors, with the eigenvalues of their product (K-FAC).

    .. math:: A = U_A \Lambda_A U_A^T, \quad S = U_S \Lambda_S U_S^T, \quad
        \Lambda_{ij} = \lambda^A_i \lambda^S_j

    :func:`ekfac_eigenvalues` makes better ones in the same basis.

    Args:
      covariances: the sum of what :func:`ekfac_covariances` made of all batches.
      unit: that they were made with.

    Returns:
      An ``EkfacState``.

    Source: Martens and Grosse 2015, arXiv:1503.05671.
    """
    inputs = {name: jnp.linalg.eigh(c.inputs.value) for name, c in covariances.items()}
    outputs = {
        name: jnp.linalg.eigh(c.outputs.value) for name, c in covariances.items()
    }
    products = {
        name: jnp.maximum(inputs[name][0], 0)[:, None]
        * jnp.maximum(outputs[name][0], 0)[None]
        for name in covariances
    }
    return EkfacState(
        {name: vectors for name, (_, vectors) in inputs.items()},
        {name: vectors for name, (_, vectors) in outputs.items()},
        {name: Mean(value, jnp.asarray(1)) for name, value in products.items()},
        jnp.asarray(unit, next(iter(products.values())).dtype),
    )


def ekfac_eigenvalues(
    tapped_loss: TappedLoss,
    params: Any,
    batch: Any,
    state: EkfacState,
    *,
    mask: ArrayLike | None = None,
    key: jax.Array | None = None,
) -> dict[str, Mean]:
    r"""The eigenvalues of EK-FAC from one batch, which add up over batches.

    .. math:: \Lambda_{ij} = E[(U_A^T G U_S)_{ij}^2], \quad G = \sum_t \bar a_t g_t^T

    Args are those of ``ekfac_covariances``, with the state that ``kfac_state`` made of
    all batches.

    Returns:
      Name -> ``Mean`` of [I + 1, O], for ``state._replace(eigenvalues=total)``.

    Source: George et al. 2018, arXiv:1806.03884.
    """
    layers, keep = _taps(tapped_loss, params, batch, mask, key)
    count = jnp.sum(keep.reshape(len(keep), -1).any(1))
    found = {}
    for name, (a, g) in layers.items():
        a = jnp.matmul(a, state.input_vectors[name], precision="highest")
        g = jnp.matmul(g / state.unit, state.output_vectors[name], precision="highest")
        found[name] = Mean(jnp.sum(jnp.square(_gradients(a, g)), 0), count)
    return found


def ekfac_fit(
    tapped_loss: TappedLoss,
    params: Any,
    data: Any,
    *,
    chunk: int | None = None,
    mask: ArrayLike | None = None,
    key: jax.Array | None = None,
) -> EkfacState:
    r"""The Gauss-Newton matrix of each layer over all data of one process (EK-FAC).

    Use it before :func:`influence_scores`. Of data that come in batches or lie on
    several hosts the three functions that it calls make the same.

    Args are those of ``ekfac_covariances``, with all examples as ``data``, and:
      chunk: how many examples are taken at a time; by default all.

    Returns:
      An ``EkfacState``, whose ``unit`` is the largest gradient of a pre-activation.

    Raises:
      ValueError: as of ``ekfac_covariances``, or ``data`` has not one number of rows.

    Numerics: the eigenvalues are in squares of the largest gradient: they do not vanish
      for a model that is sure of all examples, whose gradients are near 1e-35.

    Source: Grosse et al. 2023, arXiv:2308.03296.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import ekfac_fit
    >>> def tapped_loss(w, taps, x):  # a linear model of one number
    ...     out = x @ w + (taps or {}).get("w", 0.0)
    ...     return jnp.square(out[:, 0]) / 2, {"w": (x, out)}
    >>> state = ekfac_fit(tapped_loss, jnp.ones((2, 1)), jnp.eye(2))
    >>> state.eigenvalues["w"].value.shape  # two inputs and the bias
    (3, 1)
    """
    chunks = _Chunks(data, mask, chunk)

    def largest(at):
        layers, _ = _taps(tapped_loss, params, *chunks[at], chunks.key(key, at))
        sizes = [jnp.max(jnp.abs(g), initial=0) for _, g in layers.values()]
        return jnp.max(jnp.stack(sizes))

    unit = jnp.max(jax.lax.map(largest, jnp.arange(chunks.count)))
    unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1)

    def covariances(at):
        rows, keep = chunks[at]
        own = chunks.key(key, at)
        return ekfac_covariances(
            tapped_loss, params, rows, mask=keep, key=own, unit=unit
        )

    state = kfac_state(chunks.total(covariances), unit=unit)

    def eigenvalues(at):
        rows, keep = chunks[at]
        own = chunks.key(key, at)
        return ekfac_eigenvalues(tapped_loss, params, rows, state, mask=keep, key=own)

    return state._replace(eigenvalues=chunks.total(eigenvalues))


def ekfac_ihvp(
    state: EkfacState,
    gradients: dict[str, ArrayLike],
    *,
    damping: Mapping[str, ArrayLike] | ArrayLike | None = None,
) -> dict[str, jax.Array]:
    r"""Gradients of the layers times the inverse of the damped Gauss-Newton matrix.

    .. math:: V \mapsto U_A \frac{U_A^T V U_S}{\Lambda + \lambda} U_S^T

    Args:
      state: of :func:`ekfac_fit`.
      gradients: name -> gradients of the kernel, over that of the bias,
        [..., I + 1, O].
      damping: lambda, positive, in loss squared over parameters squared, for all layers
        or name -> that of the layer; by default a tenth of the mean eigenvalue of each
        layer. The more of it, the closer scores are to those of the exact matrix, and
        to plain products of gradients.

    Returns:
      Name -> [..., I + 1, O].

    Raises:
      ValueError: a layer is not known, a shape is wrong, or ``damping`` is not
        positive or lacks a layer.

    Source: Grosse et al. 2023, arXiv:2308.03296.
    """
    found = {}
    for name, gradient in gradients.items():
        v = numerics.promote_to_float32(gradient, f"gradients[{name!r}]")
        if name not in state.eigenvalues:
            raise ValueError(
                f"gradients has a layer {name!r}, expected some of "
                f"{sorted(state.eigenvalues)}"
            )
        shape = jnp.shape(state.eigenvalues[name].sum)
        if v.shape[-2:] != shape:
            raise ValueError(
                f"gradients[{name!r}] has shape {v.shape}, expected [..., "
                f"{shape[0]}, {shape[1]}]"
            )
        found[name] = _solve(state, name, v / state.unit, damping) / state.unit
    return found


def influence_scores(
    tapped_loss: TappedLoss,
    params: Any,
    queries: Any,
    train: Any,
    *,
    state: EkfacState | None,
    damping: Mapping[str, ArrayLike] | ArrayLike | None = None,
    measure: TappedLoss | None = None,
    chunk: int | None = None,
    query_chunk: int | None = None,
) -> jax.Array:
    r"""How much each training example lowers the loss of each query.

    .. math:: \nabla f(q)^T (G + \lambda)^{-1} \nabla \ell(n)

    summed over the tapped layers. Without the minus sign of the influence on f: where f
    is the loss of the query, the positive examples are its proponents, and taking them
    from the training data raises it. To first order it rises by the score over the
    number of training examples.

    Args:
      tapped_loss: the loss that was trained, see ``logitlab.metrics.influence``.
      params: where it was trained to.
      queries: an array or a tree of arrays [Q, ...].
      train: the same of the training examples, [N, ...].
      state: of :func:`ekfac_fit`; None takes plain products of gradients.
      damping: see :func:`ekfac_ihvp`.
      measure: f of the queries, of the same form; by default ``tapped_loss``.
      chunk: how many training examples are taken at a time; by default all.
      query_chunk: how many queries; each chunk of them goes through the training
        examples once, and holds a gradient of each of them.

    Returns:
      [Q, N], float32 (float64 for float64).

    Raises:
      ValueError: as of ``ekfac_covariances``, or data have not one number of rows.

    Numerics: gradients of exact losses do not round to 0 for a model that is sure, nor
      do the scores: where all examples have margins of 80, they are of the usual size
      with the default damping.

    Source: Koh and Liang 2017, arXiv:1703.04730; Grosse et al. 2023, arXiv:2308.03296.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import influence_scores
    >>> def tapped_loss(w, taps, x):
    ...     out = x @ w + (taps or {}).get("w", 0.0)
    ...     return out[:, 0], {"w": (x, out)}
    >>> x = jnp.float32([[1, 2], [3, 0]])
    >>> influence_scores(tapped_loss, jnp.ones((2, 1)), x, x, state=None)
    Array([[ 6.,  4.],
           [ 4., 10.]], dtype=float32)
    """
    asked = _Chunks(queries, None, query_chunk)
    trained = _Chunks(train, None, chunk)
    unit = 1.0 if state is None else state.unit

    def of_queries(at):
        layers, _ = _taps(measure or tapped_loss, params, *asked[at], None)
        solved = {}
        for name, (a, g) in layers.items():
            v = _gradients(a, g / unit)
            solved[name] = v if state is None else _solve(state, name, v, damping)

        def of_rows(at):
            layers, _ = _taps(tapped_loss, params, *trained[at], None)
            parts = []
            for name, (a, g) in layers.items():
                v = _gradients(a, g / unit)
                parts.append(
                    jnp.einsum("qio,nio->qn", solved[name], v, precision="highest")
                )
            return sum(parts)

        scores = jax.lax.map(of_rows, jnp.arange(trained.count))
        return jnp.moveaxis(scores, 0, 1).reshape(asked.size, -1)[:, : trained.rows]

    scores = jax.lax.map(of_queries, jnp.arange(asked.count))
    return scores.reshape(-1, trained.rows)[: asked.rows]


def _of_layer(damping, name, dtype):
    label = "damping"
    if isinstance(damping, Mapping):
        if name not in damping:
            raise ValueError(f"damping names {sorted(damping)}, expected {name!r} too")
        label, damping = f"damping[{name!r}]", damping[name]
    return hyper(label, damping, dtype, lambda d: d > 0, "positive")


def _solve(state, name, v, damping):
    """Of gradients in units, without the last division by it."""
    left, right = state.input_vectors[name], state.output_vectors[name]
    values = state.eigenvalues[name].value
    if damping is None:
        damped = values + 0.1 * jnp.mean(values)
        damped = jnp.where(damped > 0, damped, 1)  # of a layer without gradients
    else:
        given = _of_layer(damping, name, v.dtype)
        damped = values + given / state.unit / state.unit
    rotated = jnp.einsum("ki,...kl,lo->...io", left, v, right, precision="highest")
    rotated = rotated / jnp.expand_dims(damped, range(v.ndim - 2))
    return jnp.einsum("ik,...kl,ol->...io", left, rotated, right, precision="highest")


def _taps(tapped_loss, params, batch, mask, key):
    """Inputs with a 1 and gradients of each layer, 0 where masked, and the mask."""
    more = () if key is None else (key,)
    rows = jax.tree.leaves(batch)[0].shape[0]

    def losses(taps):
        values, layers = tapped_loss(params, taps, batch, *more)
        if jnp.shape(values) != (rows,):
            raise ValueError(
                f"tapped_loss returns losses of shape {jnp.shape(values)}, expected "
                f"({rows},), one for each example"
            )
        return jnp.asarray(values), layers

    _, layers = jax.eval_shape(lambda: losses(None))
    if not layers:
        raise ValueError("tapped_loss returns no layers, expected at least one")
    taps = {name: jnp.zeros(out.shape, out.dtype) for name, (_, out) in layers.items()}
    values, back, layers = jax.vjp(losses, taps, has_aux=True)
    (grads,) = back(jnp.ones_like(values))
    tokens = () if mask is None else jnp.shape(mask)[1:]
    keep = numerics.check_mask(mask, (rows, *tokens))
    found = {}
    for name, (a, _) in layers.items():
        g = numerics.promote_to_float32(grads[name], f"the gradient of {name!r}")
        a = numerics.promote_to_float32(a, f"the input of {name!r}").astype(g.dtype)
        a = jnp.concatenate([a, jnp.ones((*a.shape[:-1], 1), a.dtype)], -1)
        shown = _beside(keep, a)
        found[name] = jnp.where(shown, a, 0), jnp.where(shown, g, 0)
    return found, keep


def _beside(keep, x):
    """The mask of examples or of tokens, with axes up to those of ``x``."""
    if x.ndim == 2 and keep.ndim == 2:
        keep = keep.any(1)
    return keep.reshape(*keep.shape, *[1] * (x.ndim - keep.ndim))


def _outer(x):
    x = x.reshape(-1, x.shape[-1])
    return jnp.matmul(x.T, x, precision="highest")


def _gradients(a, g):
    """Of the kernels [N, I + 1, O], summed over the tokens of each example."""
    a, g = (x.reshape(len(x), -1, x.shape[-1]) for x in (a, g))
    return jnp.einsum("nti,nto->nio", a, g, precision="highest")


class _Chunks:
    """Rows of a tree of arrays, some at a time; the last are filled and masked."""

    def __init__(self, data, mask, size):
        counts = {jnp.shape(a)[:1] for a in jax.tree.leaves(data)}
        if len(counts) != 1 or () in counts or (0,) in counts:
            shapes = [jnp.shape(a) for a in jax.tree.leaves(data)]
            raise ValueError(f"data have shapes {shapes}, expected one number of rows")
        ((self.rows,),) = counts
        if size is not None:
            check_count("chunk", size)
        self.size = min(size or self.rows, self.rows)
        self.count = -(-self.rows // self.size)
        self._data = jax.tree.map(jnp.asarray, data)
        if mask is not None:
            mask = jnp.asarray(mask)
            numerics.check_mask(mask, (self.rows, *mask.shape[1:]))
        self._mask = jnp.ones(self.rows, bool) if mask is None else mask

    def __getitem__(self, at):
        """Rows of a chunk, and which of them count."""
        rows = at * self.size + jnp.arange(self.size)
        real = rows < self.rows
        rows = jnp.where(real, rows, 0)
        keep = self._mask[rows]
        keep = keep & real.reshape(-1, *[1] * (keep.ndim - 1))
        return jax.tree.map(lambda a: a[rows], self._data), keep

    def key(self, key, at):
        return None if key is None else jax.random.fold_in(key, at)

    def total(self, function):
        """Sum of trees over the chunks, holding one of them at a time."""
        shapes = jax.eval_shape(function, 0)
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

        def add(total, at):
            return jax.tree.map(jnp.add, total, function(at)), None

        return jax.lax.scan(add, zeros, jnp.arange(self.count))[0]
