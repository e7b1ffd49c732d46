import numpy as np
import pytest
from harness.goldens import cases
from sklearn import datasets

from logitlab.data import _mnist1d, prepare, tfds_builders

SIZES = {
    "digits": (1438, 359),
    "breast_cancer": (456, 113),
    "wine": (142, 36),
    "mnist1d": (4000, 1000),
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Name -> split -> arrays, read back from the files by TFDS alone."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("data")
    read = {}
    for name in SIZES:
        builder = tfds.builder_from_directory(prepare(name, folder))
        assert builder.info.file_format.value == "array_record"
        read[name] = {}
        for split in builder.info.splits:
            source = builder.as_data_source(split)
            rows = source.__getitems__(list(range(len(source))))
            read[name][split] = {k: np.stack([r[k] for r in rows]) for k in rows[0]}
    return read


def arrays(name):
    if name == "mnist1d":
        return _mnist1d.signals()
    bunch = getattr(datasets, f"load_{name}")()
    return bunch.data, bunch.target


@pytest.mark.sampled
@pytest.mark.parametrize("name", SIZES)
def test_round_trip(examples, name):
    x, y = arrays(name)
    splits = examples[name]
    assert tuple(len(splits[s]["label"]) for s in ("train", "test")) == SIZES[name]
    index = np.concatenate([splits[s]["index"] for s in ("train", "test")])
    np.testing.assert_array_equal(np.sort(index), np.arange(len(y)))
    for rows in splits.values():
        assert (np.diff(rows["index"]) > 0).all()  # in the order of the source
        assert rows["features"].dtype == np.float32
        np.testing.assert_array_equal(
            rows["features"], x[rows["index"]].astype(np.float32)
        )
        np.testing.assert_array_equal(rows["label"], y[rows["index"]])


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine"])
def test_splits_are_stratified(examples, name):
    train, test = (np.bincount(examples[name][s]["label"]) for s in ("train", "test"))
    assert (np.abs(test - 0.2 * (train + test)) <= 0.5).all()


def test_split_is_seeded_and_pinned():
    labels = np.repeat([0, 1], [10, 5])
    test = tfds_builders.stratified_test(labels, 0.2, seed=0)
    # Drawn once from RandomState(0): a split that moved would change every result.
    np.testing.assert_array_equal(np.flatnonzero(test), [2, 8, 11])
    other = tfds_builders.stratified_test(labels, 0.2, seed=1)
    assert (test != other).any()


def test_mnist1d_is_the_published_one():
    (case,) = cases("mnist1d")
    x, y = _mnist1d.signals()
    rows, want = case["inputs"]["rows"], case["outputs"]
    np.testing.assert_allclose(x[rows], want["x"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.abs(x).sum(0), want["x_sums"], rtol=1e-9)
    assert ((np.arange(5000) + 1) * y).sum() == want["y_weighted"]


def test_mnist1d_draws():
    x, y = _mnist1d.signals(seed=1, samples=30)
    again, _ = _mnist1d.signals(seed=1, samples=30)
    np.testing.assert_array_equal(x, again)
    assert (x != _mnist1d.signals(seed=2, samples=30)[0]).any()
    assert (np.bincount(y) == 3).all()
    np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=1e-12)
    for samples in (0, 15, -10):
        with pytest.raises(ValueError, match=f"samples is {samples}, expected a posi"):
            _mnist1d.signals(samples=samples)
