"""MNIST-1D: signals made of ten templates, by its published definition."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

_TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)
_LONG = 72  # samples of a padded template
_PADDING = (36, 60)  # zeros behind the twelve of a template, both ends possible


def signals(seed: int = 42, samples: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    """Signals [n, 40] float64 of mean 0 and deviation 1, and their digits int64 [n].

    A digit's template, whitened, is padded with 36 to 60 zeros, stretched to 72
    samples, scaled by 0.8 to 1.2 and rolled by 0 to 47. Smooth noise (0.25, blurred
    over two samples) fills the zeros, white noise (0.02) goes everywhere, a line of
    random slope up to 0.375 is taken off, and 40 samples are read. Rows are shuffled
    and standardised all together.

    Args:
      seed: the published data set is made with 42.
      samples: rows, the same number of each digit; the published number is 5000.

    Returns:
      ``(x, y)``. With the defaults it is the published data set, to rounding: the
      random numbers are drawn in its order, from NumPy's frozen ``RandomState``.

    Raises:
      ValueError: ``samples`` is not a positive multiple of ten.

    Source: Greydanus 2020, arXiv:2011.14439.

    >>> import numpy as np
    >>> from logitlab.data._mnist1d import signals
    >>> x, y = signals(samples=20)
    >>> x.shape, np.bincount(y).tolist()
    ((20, 40), [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    if samples < 1 or samples % 10:
        raise ValueError(f"samples is {samples}, expected a positive multiple of 10")
    random = np.random.RandomState(seed)
    white = _TEMPLATES - _TEMPLATES.mean(1, keepdims=True)
    white /= _TEMPLATES.std(1, keepdims=True)
    templates = (white - white[:, :1]) / 6  # a signal starts and ends near 0
    y = np.repeat(np.arange(10), samples // 10)
    x = np.stack([_signal(random, template) for template in templates[y]])
    order = random.permutation(samples)
    x, y = x[order], y[order]
    return (x - x.mean()) / x.std(), y


def _signal(random, template):
    """One noisy signal; the order of the draws is part of the definition."""
    least, most = _PADDING
    zeros = least + int(random.rand() * (most - least + 1))
    x = _resample(np.append(template + 1e-8, np.zeros(zeros)), _LONG)  # no 0 within
    x = np.roll(x * (1 + 0.4 * (random.rand() - 0.5)), random.choice(48))
    smooth = gaussian_filter1d(0.25 * random.randn(_LONG), 2)
    x = np.where(x == 0, smooth, x) + 0.02 * random.randn(_LONG)
    slope = 0.75 * (random.rand() - 0.5)
    return _resample(x - slope * np.linspace(-0.5, 0.5, _LONG), 40)


def _resample(x, size):
    return np.interp(np.linspace(0, 1, size), np.linspace(0, 1, len(x)), x)
