"""Scores that rise with a model's accuracy on examples without labels.

They rank sets of examples, or models; ``metrics.accuracy_estimates`` has what estimates
the accuracy itself.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean, mean_of
from logitlab.metrics.ood_scores import energy_score, neg_entropy_score
from logitlab.metrics.spectra import nuclear_norm
from logitlab.numerics.arguments import check_count, hyper, kept_logits

__all__ = [
    "class_means",
    "dispersion_score",
    "entropy_score",
    "mano_criterion",
    "mano_powers",
    "mano_score",
    "mde_score",
    "nuclear_norm_score",
    "softrun",
]


def mano_criterion(
    logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Mean cross-entropy of all classes: how confident a model is as a whole.

    ``softrun`` takes it to choose how logits are normalized. It is at least log C,
    which constant rows have. The criteria of batches add up.

    .. math:: \Phi = -\frac{1}{N C} \sum_i \sum_c \log \mathrm{softmax}(z_i)_c

    Shapes: logits [..., C], where [..., C], mask [...] -> ([], [])

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      axis: the class axis.
      where: bool, the classes that take part, and are counted.
      mask: bool [...], the examples that count.

    Returns:
      A ``Mean`` in nats, over pairs of an example and a class.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes disagree.

    Source: MaNo, Xie et al. 2024, arXiv:2405.18979.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import mano_criterion
    >>> print(f"{float(mano_criterion(jnp.float32([[0, 0], [0, 9]]))):.4f}")
    2.5966
    """
    z, keep = kept_logits(logits, axis=axis, where=where, mask=mask)
    shown = (z > -jnp.inf) & keep[..., None]
    return mean_of(-numerics.log_softmax(z), shown)


def softrun(
    logits: ArrayLike,
    *,
    criterion: Mean | ArrayLike | None = None,
    eta: ArrayLike = 5.0,
    subtract_min: bool = True,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Rows of logits normalized to sum to 1: by softmax, or by a Taylor polynomial.

    A softmax exaggerates the logits of a badly calibrated model, which the second-order
    Taylor polynomial of the exponential does not. It is taken where the criterion says
    that the model is not confident.

    .. math:: Q_{ic} = \frac{v_{ic}}{\sum_k v_{ik}}, \quad
        v = e^z \text{ if } \Phi > \eta, \text{ else } 1 + z + z^2/2

    The polynomial is not invariant to a constant added to a row.

    Shapes: logits [..., C], where [..., C], mask [...] -> [..., C]

    Args:
      logits: scores.
      criterion: :math:`\Phi`, of ``mano_criterion``; by default that of these logits,
        which therefore have to be there at once.
      eta: the criterion above which the softmax is taken.
      subtract_min: whether each row's smallest value is subtracted from its polynomial,
        as the original code does, unlike the formula of the paper. Constant rows are
        then 0.
      axis: the class axis.
      where: bool, the classes that take part; the others get 0.
      mask: bool [...], the examples that count; the others' rows are 0.

    Returns:
      float32, or float64 for float64 logits.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes disagree.

    Numerics: finite for logits of any size that float32 holds.

    Source: MaNo, Xie et al. 2024, arXiv:2405.18979.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import softrun
    >>> softrun(jnp.float32([-1, 0, 1]))
    Array([0. , 0.2, 0.8], dtype=float32)
    """
    z, keep = kept_logits(logits, axis=axis, where=where, mask=mask)
    if criterion is None:
        criterion = mano_criterion(z, mask=keep)
    phi = criterion.value if isinstance(criterion, Mean) else criterion
    is_confident = jnp.asarray(phi, z.dtype) > hyper("eta", eta, z.dtype)
    q = jnp.where(is_confident, numerics.softmax(z), _taylor(z, subtract_min))
    return jnp.moveaxis(jnp.where(keep[..., None], q, 0), -1, axis)


def mano_powers(
    logits: ArrayLike,
    *,
    criterion: Mean | ArrayLike,
    p: float = 4.0,
    eta: ArrayLike = 5.0,
    subtract_min: bool = True,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Mean power of normalized logits: ``mano_score`` to the power p, over batches.

    First add up the criteria of all batches, then these. The score is
    ``total.value ** (1 / p)``.

    .. math:: \frac{1}{N C} \sum_i \sum_c Q_{ic}^p

    Shapes: logits [..., C], where [..., C], mask [...] -> ([], [])

    Args are those of ``softrun``, with a criterion that has to be given, and:
      p: of the norm, above 0.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes disagree, or ``p`` is not positive.

    Source: MaNo, Xie et al. 2024, arXiv:2405.18979.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import mano_criterion, mano_powers, mano_score
    >>> z = jnp.float32([[0, 1], [2, 0], [3, 0]])
    >>> phi = mano_criterion(z[:2]) + mano_criterion(z[2:])
    >>> total = mano_powers(z[:2], criterion=phi) + mano_powers(z[2:], criterion=phi)
    >>> print(f"{total.value ** 0.25:.4f} {mano_score(z):.4f}")
    0.8409 0.8409
    """
    powers, counted = _powers(
        logits, criterion, p, eta, subtract_min, axis, where, mask
    )
    return mean_of(powers, counted)


def mano_score(
    logits: ArrayLike,
    *,
    p: float = 4.0,
    eta: ArrayLike = 5.0,
    criterion: Mean | ArrayLike | None = None,
    subtract_min: bool = True,
    batch_size: int | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""MaNo: the norm of the normalized logits, higher for a more accurate model.

    To rank sets of examples, or models, by an accuracy that nobody has measured.

    .. math:: \Bigl(\frac{1}{N C} \sum_i \sum_c Q_{ic}^p\Bigr)^{1/p}

    with Q of ``softrun``: from 1/C for uniform rows to C^(-1/p) for one-hot ones. It
    needs all logits at once; over batches add up ``mano_powers``.

    Shapes: logits [..., C], where [..., C], mask [...] -> []

    Args:
      logits: scores of all examples.
      p: of the norm, above 0.
      eta: the criterion above which rows are normalized by softmax.
      criterion: see ``softrun``.
      subtract_min: see ``softrun``.
      batch_size: takes the mean of the scores of batches of this many examples, the
        last of which may be smaller, as the original code does with 128. A mean of
        means: only to compare with its numbers.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count.

    Returns:
      float32, or float64 for float64 logits; 0 without examples.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes disagree, ``p`` is not positive, or ``batch_size`` is below
        1.

    Source: MaNo, Xie et al. 2024, arXiv:2405.18979.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import mano_score
    >>> mano_score(jnp.float32([[0, 99], [99, 0]])).round(4)  # 2 ** -0.25
    Array(0.8409, dtype=float32)
    """
    powers, counted = _powers(
        logits, criterion, p, eta, subtract_min, axis, where, mask
    )
    rows, seen = (jnp.sum(a, -1).ravel() for a in (powers, counted))
    size = max(rows.size, 1) if batch_size is None else batch_size
    check_count("batch_size", size)
    batches = -(-rows.size // size)
    batch = (jnp.cumsum(seen > 0) - 1) // size  # of the examples that count
    total = jnp.zeros(batches, rows.dtype).at[batch].add(rows)
    count = jnp.zeros(batches, seen.dtype).at[batch].add(seen)
    mean = total / jnp.maximum(count, 1).astype(total.dtype)
    norms = jnp.where(mean > 0, jnp.where(mean > 0, mean, 1) ** (1 / p), 0)
    return numerics.masked_mean(norms, count > 0)


def entropy_score(
    logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Minus the mean entropy of the predictions, higher for a more accurate model.

    .. math:: \frac1N \sum_i \sum_c p_{ic} \log p_{ic}

    Shapes: logits [..., C], where [..., C], mask [...] -> ([], [])

    Args and errors are those of ``mano_criterion``.

    Returns:
      A ``Mean`` in nats, which adds up over batches.

    Source: Guillory et al. 2021, arXiv:2107.03315.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import entropy_score
    >>> print(f"{float(entropy_score(jnp.float32([[0, 0], [40, 0]]))):.4f}")
    -0.3466
    """
    z, keep = kept_logits(logits, axis=axis, where=where, mask=mask)
    return mean_of(neg_entropy_score(z), keep)


def nuclear_norm_score(
    logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Nuclear norm of the matrix of probabilities, between 0 and 1.

    High for predictions that are confident and spread over all classes, as those of an
    accurate model are; 1/C for C or more uniform rows. Needs all logits at once.

    .. math:: \frac{\|P\|_*}{\sqrt{N \min(N, C)}}

    Shapes: logits [..., C], where [..., C], mask [...] -> []

    Args and errors are those of ``mano_criterion``. Classes that ``where`` hides in all
    examples are not counted.

    Returns:
      float32, or float64 for float64 logits; 0 without examples.

    Source: Deng et al. 2023, arXiv:2302.01094.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import nuclear_norm_score
    >>> z = jnp.float32([[40, 0], [0, 40]])
    >>> print(f"{nuclear_norm_score(z):.4f} {nuclear_norm_score(z * 0):.4f}")
    1.0000 0.5000
    """
    z, keep = kept_logits(logits, axis=axis, where=where, mask=mask)
    z, keep = z.reshape(-1, z.shape[-1]), keep.ravel()
    n = jnp.sum(keep, dtype=jnp.int32)
    shown = jnp.any((z > -jnp.inf) & keep[:, None], 0)
    most = n * jnp.minimum(n, jnp.sum(shown, dtype=jnp.int32))
    norm = nuclear_norm(numerics.softmax(z), mask=keep)
    return norm / jnp.sqrt(jnp.maximum(most, 1).astype(z.dtype))


def class_means(
    features: ArrayLike,
    logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Mean features of the examples that are predicted as each class.

    For ``dispersion_score``; those of batches add up.

    .. math:: \mu_c = \mathrm{mean}_{i : \hat y_i = c} \, f_i

    Shapes: features [..., D], logits [..., C], where [..., C], mask [...]
      -> ([C, D], [C, 1])

    Args:
      features: of the last hidden layer.
      logits: of the same examples.
      axis: the class axis of the logits.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count.

    Raises:
      TypeError: ``features`` or ``logits`` is not floating point, ``where`` or ``mask``
        not bool.
      ValueError: the shapes disagree.

    Source: Xie et al. 2023, arXiv:2303.15488.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import class_means
    >>> z = jnp.float32([[1, 0], [0, 1], [0, 2]])
    >>> class_means(jnp.float32([[1], [2], [4]]), z).value
    Array([[1.],
           [3.]], dtype=float32)
    """
    z, keep = kept_logits(logits, axis=axis, where=where, mask=mask)
    f = numerics.promote_to_float32(features, "features")
    if f.ndim != z.ndim or f.shape[:-1] != z.shape[:-1]:
        raise ValueError(
            f"features has shape {f.shape}, expected {(*z.shape[:-1], 'D')}"
        )
    f = jnp.where(keep[..., None], f, 0).reshape(-1, f.shape[-1])
    hot = numerics.is_label(z, jnp.argmax(z, -1)) & keep[..., None]
    hot = hot.reshape(-1, z.shape[-1])
    total = jnp.matmul(hot.T.astype(f.dtype), f, precision="highest")
    return Mean(total, jnp.sum(hot, 0, dtype=jnp.int32)[:, None])


def dispersion_score(means: Mean) -> jax.Array:
    r"""How far apart the predicted classes lie among the features.

    Higher for a more accurate model. The logarithm of the variance between classes.

    .. math:: \log \frac{1}{C - 1} \sum_c n_c \|\mu_c - \mu\|^2

    Args:
      means: of ``class_means``; classes without examples add nothing.

    Returns:
      [], ``-inf`` for one class, and where all examples are predicted as one.

    Raises:
      ValueError: the sums and counts are not [C, D] and [C, 1].

    Source: Xie et al. 2023, arXiv:2303.15488.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import class_means, dispersion_score
    >>> z = jnp.float32([[1, 0], [0, 1]])
    >>> print(f"{dispersion_score(class_means(jnp.float32([[1], [3]]), z)):.4f}")
    0.6931
    """
    total, count = (jnp.asarray(a) for a in means)
    if total.ndim != 2 or count.shape != (total.shape[0], 1):
        raise ValueError(
            f"means has shapes {total.shape}, {count.shape}, expected [C, D], [C, 1]"
        )
    n = count.astype(total.dtype)
    whole = jnp.sum(total, 0, keepdims=True) / jnp.maximum(jnp.sum(n), 1)
    apart = jnp.where(count > 0, total / jnp.maximum(n, 1) - whole, 0)
    return jnp.log(jnp.sum(n * apart**2) / max(total.shape[0] - 1, 1))


def mde_score(
    logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Meta-distribution energy: how unlike each other the examples' energies are.

    .. math:: -\frac1N \sum_i \log \frac{e^{E_i}}{\sum_j e^{E_j}}, \quad
        E = -T \log \sum_c e^{z_c / T}

    log N where all energies are equal, and larger otherwise; the original code reports
    its logarithm. It depends on N: compare sets of one size. Needs all logits at once.

    Shapes: logits [..., C], where [..., C], mask [...] -> []

    Args:
      logits: of all examples.
      temperature: T, in the unit of the logits.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count.

    Returns:
      Nats, float32 (float64 for float64 logits); 0 without examples.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes disagree, or ``temperature`` is not positive.

    Source: MDE, Peng et al. 2024, arXiv:2401.12689.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import mde_score
    >>> print(f"{mde_score(jnp.zeros((8, 3))):.4f}")  # log 8
    2.0794
    """
    z, keep = kept_logits(logits, axis=axis, where=where, mask=mask)
    if not keep.size:
        return jnp.zeros((), z.dtype)
    energy = -energy_score(z, temperature=temperature).ravel()
    keep = keep.ravel() & (energy != jnp.inf)  # a row without classes
    log_p = numerics.log_softmax(jnp.where(keep, energy, -jnp.inf))
    return numerics.masked_mean(-log_p, keep)


def _powers(logits, criterion, p, eta, subtract_min, axis, where, mask):
    """Powers of normalized logits, and which entries are counted, classes last."""
    z, keep = kept_logits(logits, axis=axis, where=where, mask=mask)
    p = hyper("p", p, z.dtype, lambda p: p > 0, "positive")
    q = softrun(z, criterion=criterion, eta=eta, subtract_min=subtract_min, mask=keep)
    counted = (z > -jnp.inf) & keep[..., None]
    return jnp.where(q > 0, jnp.where(q > 0, q, 1) ** p, 0), counted


def _taylor(z, subtract_min):
    """Rows of ``1 + z + z^2 / 2``, which is half of ``1 + (1 + z)^2``, normalized."""
    shown = z > -jnp.inf
    a = jnp.where(shown, jnp.abs(1 + jnp.where(shown, z, 0)), jnp.inf)
    least = jnp.min(a, -1, keepdims=True)
    scale = jnp.max(jnp.where(shown, a, 1), -1, keepdims=True)
    scale = jax.lax.stop_gradient(jnp.maximum(scale, 1))  # its square may overflow
    a, least = (
        jnp.where(shown, a, 0) / scale,
        jnp.where(least < jnp.inf, least, 0) / scale,
    )
    v = (a - least) * (a + least) if subtract_min else a * a + 1 / scale / scale
    v = jnp.where(shown, v, 0)
    total = jnp.sum(v, -1, keepdims=True)
    return v / jnp.where(total > 0, total, 1)
