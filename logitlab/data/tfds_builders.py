"""TFDS builders of small data sets that need no network, and no TensorFlow.

Importing this module registers ``digits``, ``breast_cancer``, ``wine`` and ``mnist1d``
with TFDS, so that ``tfds.builder("digits", file_format="array_record")`` finds them;
:func:`logitlab.data.load` and :func:`logitlab.data.stream` import it when they need it.
Every example has ``features`` float32 [D], ``label`` in [0, C) and ``index``, its row
in the arrays it comes from; rows keep their order.
"""

from __future__ import annotations

import numpy as np
import tensorflow_datasets as tfds

from logitlab.data import _mnist1d

__all__ = ["LOCAL", "BreastCancer", "Digits", "Mnist1d", "Wine", "stratified_test"]


def stratified_test(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which rows are for testing: the same share, rounded, of every class.

    Shapes: labels [n] -> bool [n]

    NumPy freezes the bit stream of ``RandomState``, not that of ``default_rng``: a
    split by the latter could change with the next release.

    >>> import numpy as np
    >>> from logitlab.data.tfds_builders import stratified_test
    >>> stratified_test(np.array([0, 0, 0, 0, 1, 1]), 0.5, seed=0).sum()
    np.int64(3)
    """
    random = np.random.RandomState(seed)
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        test[rows[: round(fraction * len(rows))]] = True
    return test


class _Vectors(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Rows of features with a label; subclasses say which."""

    VERSION = tfds.core.Version("1.0.0")
    DIM: int
    CLASSES: list[str]
    ABOUT: str
    HOMEPAGE: str
    CITATION: str

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.ABOUT,
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            features=tfds.features.FeaturesDict(
                {
                    "features": tfds.features.Tensor(
                        shape=(self.DIM,), dtype=np.float32
                    ),
                    "label": tfds.features.ClassLabel(names=self.CLASSES),
                    "index": tfds.features.Scalar(dtype=np.int64),
                }
            ),
            supervised_keys=("features", "label"),
            disable_shuffling=True,  # rows keep their order
        )

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features [n, D], labels [n], and which rows are for testing, bool [n]."""
        raise NotImplementedError

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        features, labels, test = self._arrays()
        features = features.astype(np.float32)

        def rows(chosen):
            for i in np.flatnonzero(chosen).tolist():
                yield (
                    i,
                    {"features": features[i], "label": int(labels[i]), "index": i},
                )

        return {"train": rows(~test), "test": rows(test)}

    def _generate_examples(self):
        raise NotImplementedError  # the splits bring their own generators


class _FromSklearn(_Vectors, skip_registration=True):
    """A data set that scikit-learn carries with it, one fifth of each class to test."""

    def _arrays(self):
        from sklearn import datasets

        bunch = getattr(datasets, f"load_{self.name}")()
        return bunch.data, bunch.target, stratified_test(bunch.target, 0.2, seed=0)


class Digits(_FromSklearn):
    """Handwritten digits, 8 x 8 pixels from 0 to 16: 1438 to train, 359 to test."""

    DIM, CLASSES = 64, [str(digit) for digit in range(10)]
    ABOUT = "Optical recognition of handwritten digits, as in scikit-learn: 8 x 8."
    HOMEPAGE = "https://archive.ics.uci.edu/dataset/80"
    CITATION = (
        "Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI"
    )


class BreastCancer(_FromSklearn):
    """Wisconsin diagnostic breast cancer, 30 features: 456 to train, 113 to test."""

    DIM, CLASSES = 30, ["malignant", "benign"]
    ABOUT = "Wisconsin diagnostic breast cancer, as in scikit-learn."
    HOMEPAGE = "https://archive.ics.uci.edu/dataset/17"
    CITATION = "Wolberg, Mangasarian, Street and Street 1995, UCI"


class Wine(_FromSklearn):
    """Wines of three cultivars, 13 chemical features: 142 to train, 36 to test."""

    DIM, CLASSES = 13, ["class_0", "class_1", "class_2"]
    ABOUT = "Wine recognition, as in scikit-learn."
    HOMEPAGE = "https://archive.ics.uci.edu/dataset/109"
    CITATION = "Aeberhard and Forina 1991, Wine, UCI"


class Mnist1d(_Vectors):
    """MNIST-1D as published, 40 samples of a signal: 4000 to train, 1000 to test.

    The split is the published one, the last fifth of the shuffled rows, which is not
    stratified. ``index`` counts those shuffled rows.
    """

    DIM, CLASSES = 40, [str(digit) for digit in range(10)]
    ABOUT = "MNIST-1D: ten templates, padded, scaled, shifted, sheared and made noisy."
    HOMEPAGE = "https://arxiv.org/abs/2011.14439"
    CITATION = "Greydanus 2020, Scaling down Deep Learning, arXiv:2011.14439"

    def _arrays(self):
        features, labels = _mnist1d.signals()
        return features, labels, np.arange(len(labels)) >= 4000


LOCAL = {b.name: b for b in (Digits, BreastCancer, Wine, Mnist1d)}
"""Builder name -> builder class, for the data sets made here."""
