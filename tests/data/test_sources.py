import io
import json
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

from logitlab.data import (
    UnavailableDataset,
    load,
    long_tail,
    prepare,
    stream,
    symmetric_noise,
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("digits", "wine"):
        prepare(name, folder)
    return folder


@pytest.fixture
def wine(data_dir):
    def make(batch_size=32, split="train", seed=0, **kwargs):
        return stream("wine", split, batch_size, seed=seed, data_dir=data_dir, **kwargs)

    return make


@pytest.fixture
def offline(monkeypatch):
    def fail(*args):
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)


def assert_same(got, want):
    got, want = list(got), list(want)
    assert len(got) == len(want) > 0
    for a, b in zip(got, want, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def take(iterator, n):
    return [next(iterator) for _ in range(n)]


def files(folder):
    return sorted(p.name for p in folder.rglob("*") if not p.name.endswith(".lock"))


def test_load_is_sklearns(data_dir):
    splits = load("digits", data_dir)
    bunch = datasets.load_digits()
    assert {k: v["x"].shape for k, v in splits.items()} == dict(
        train=(1438, 64), test=(359, 64)
    )
    rows = [(x.tolist(), y) for x, y in zip(bunch.data, bunch.target, strict=True)]
    got = [
        (x.tolist(), y)
        for s in splits.values()
        for x, y in zip(*map(np.asarray, s.values()), strict=True)
    ]
    assert sorted(got) == sorted(rows)
    for split in splits.values():
        assert all(isinstance(a, jax.Array) for a in split.values())
        assert (split["x"].dtype, split["y"].dtype) == (jnp.float32, jnp.int32)


def test_standardise_by_the_training_split(data_dir):
    raw, scaled = (load("digits", data_dir, standardize=s) for s in (False, True))
    train = np.asarray(raw["train"]["x"], np.float64)
    deviation = train.std(0)
    assert (deviation == 0).any()  # digits have pixels that are always off
    for split in raw:
        want = (np.asarray(raw[split]["x"]) - train.mean(0)) / np.where(
            deviation, deviation, 1
        )
        np.testing.assert_allclose(scaled[split]["x"], want, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(scaled[split]["y"], raw[split]["y"])
    varied = np.asarray(scaled["train"]["x"])[:, deviation > 0]
    np.testing.assert_allclose(varied.std(0), 1, rtol=1e-5)


def test_batches_are_rows_of_the_split(wine, data_dir):
    train = {k: np.asarray(v) for k, v in load("wine", data_dir)["train"].items()}
    batches = wine(epochs=2)
    assert (batches.rows, batches.steps_per_epoch, batches.steps) == (142, 4, 8)
    got = list(batches)
    assert len(got) == 8
    for batch in got:
        assert set(batch) == {"x", "y", "index"}
        np.testing.assert_array_equal(batch["x"], train["x"][batch["index"]])
        np.testing.assert_array_equal(batch["y"], train["y"][batch["index"]])
        assert (batch["y"].dtype, batch["index"].dtype) == (np.int32, np.int32)
    for epoch in (got[:4], got[4:]):
        index = np.concatenate([b["index"] for b in epoch])
        assert len(set(index)) == 128  # none twice, the remainder of 14 dropped
    one, two = (np.concatenate([b["index"] for b in e]) for e in (got[:4], got[4:]))
    assert (one != two).any()  # another order in each epoch
    assert set(one) != set(two)  # and another remainder


def test_masked_remainder(wine):
    got = list(wine(remainder="mask", epochs=1))
    assert [b["mask"].sum() for b in got] == [32, 32, 32, 32, 14]
    assert {b["x"].shape for b in got} == {(32, 13)}
    index = np.concatenate([b["index"][b["mask"]] for b in got])
    np.testing.assert_array_equal(np.sort(index), np.arange(142))


def test_order_of_the_files(wine):
    for batch in (next(wine(shuffle=False)()), next(wine(shuffle=False)(step=4))):
        np.testing.assert_array_equal(batch["index"], np.arange(32))


def test_order_is_seeded(wine):
    assert_same(take(wine()(), 9), take(wine()(), 9))
    first = {seed: wine(seed=seed)[0]["index"].tolist() for seed in range(4)}
    assert len(set(map(tuple, first.values()))) == 4
    # Seed 1 does not begin with the second epoch of seed 0.
    assert wine(seed=0)[4]["index"].tolist() != first[1]


@pytest.mark.parametrize("step", [0, 1, 3, 4, 6, 401])
def test_from_any_step(wine, step):
    if step < 10:
        want = take(wine()(), step + 6)[step:]
    else:
        want = [wine()[s] for s in range(step, step + 6)]
    assert_same(take(wine()(step), 6), want)


def test_resume_in_mid_epoch(wine):
    whole = list(wine(epochs=3, remainder="mask"))
    iterator = wine(epochs=3, remainder="mask")()
    assert_same(take(iterator, 7), whole[:7])
    state = json.loads(json.dumps(iterator.get_state()))  # what a checkpoint holds
    iterator.close()
    other = wine(epochs=3, remainder="mask")()
    take(other, 2)
    other.set_state(state)
    assert other.get_state() == state
    assert_same(other, whole[7:])
    with pytest.raises(StopIteration):
        next(other)
    assert other.get_state() == {"step": 15}
    other.set_state({"step": 15})
    assert list(other) == []


@pytest.mark.sampled(3)
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("remainder", ["drop", "mask"])
def test_processes_share_every_batch(wine, count, remainder):
    kwargs = dict(epochs=2, remainder=remainder)
    whole = list(wine(**kwargs))
    shares = [
        list(wine(process_index=i, process_count=count, **kwargs)) for i in range(count)
    ]
    # Disjoint and complete: put together they are what one process would read.
    together = [
        {name: np.concatenate([s[name] for s in step]) for name in step[0]}
        for step in zip(*shares, strict=True)
    ]
    assert_same(together, whole)
    assert {len(b["x"]) for share in shares for b in share} == {32 // count}
    if remainder == "mask":
        seen = [
            {int(i) for b in share[:5] for i in b["index"][b["mask"]]}
            for share in shares
        ]
        assert sum(map(len, seen)) == len(set().union(*seen)) == 142


def test_noise_and_long_tail(wine, data_dir):
    y = load("wine", data_dir)["train"]["y"]
    noisy = symmetric_noise(jax.random.key(0), y, 3, 0.5)
    rows = np.asarray(long_tail(jax.random.key(1), y, 3, 4))
    assert 0 < len(rows) < 142
    got = list(wine(16, labels=noisy, rows=rows, remainder="mask", epochs=1))
    index, label = (
        np.concatenate([b[k][b["mask"]] for b in got]) for k in ("index", "y")
    )
    np.testing.assert_array_equal(np.sort(index), rows)
    np.testing.assert_array_equal(label, np.asarray(noisy)[index])
    assert (label != np.asarray(y)[index]).any()


def test_transform_and_slices(wine):
    plain = wine(8, split="train[:10%]", epochs=1)
    assert plain.rows == 14
    doubled = wine(
        8, split="train[:10%]", transform=lambda b: b | {"x": 2 * b["x"]}, epochs=1
    )
    (a,), (b,) = plain, doubled
    np.testing.assert_array_equal(2 * a["x"], b["x"])


def test_in_a_stream_of_the_loop(wine):
    from logitlab.train import Stream

    feed = Stream(wine())
    assert_same(take(feed.batches(5), 2), take(wine()(), 7)[5:])


def test_images_prepared_elsewhere(tmp_path):
    import PIL.Image
    import tensorflow_datasets as tfds

    pixels = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8)

    class TinyImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(4, 5, 3)),
                        "label": tfds.features.ClassLabel(num_classes=10),
                        "id": tfds.features.Text(),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i, image in enumerate(pixels):
                png = io.BytesIO()  # an array would be encoded by TensorFlow
                PIL.Image.fromarray(image).save(png, "png")
                png.seek(0)
                yield i, {"image": png, "label": i, "id": str(i)}

    TinyImages(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    # Nothing is registered under this name: it is found by its files.
    (batch,) = stream("tiny_images", "train", 10, seed=0, data_dir=tmp_path, epochs=1)
    assert batch["x"].dtype == np.uint8
    np.testing.assert_array_equal(batch["x"], pixels[batch["y"]])
    loaded = load("tiny_images", tmp_path)["train"]
    np.testing.assert_array_equal(loaded["x"], pixels[np.asarray(loaded["y"])])


def test_not_downloadable(tmp_path, offline):
    with pytest.raises(UnavailableDataset) as error:
        stream("cifar10", "train", 32, seed=0, data_dir=tmp_path)
    for part in ("'cifar10'", "Cifar10", str(tmp_path), "no network", "tfds build"):
        assert part in str(error.value)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifra10", r"no builder is called 'cifra10' .*did you mean \['cifar10'"),
        ("digits:9.9.9", "builder 'digits:9.9.9' cannot be made .*only: 1.0.0"),
    ],
)
def test_unknown_names(tmp_path, name, message):
    with pytest.raises(UnavailableDataset, match=message) as error:
        load(name, tmp_path)
    assert str(tmp_path) in str(error.value)
    assert files(tmp_path) == []


def test_other_file_formats(tmp_path):
    info = pathlib.Path(prepare("wine", tmp_path), "dataset_info.json")
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(UnavailableDataset, match="builder 'wine' .*TFRECORD") as error:
        load("wine", tmp_path)
    assert str(tmp_path) in str(error.value)


def test_failed_preparation_leaves_nothing(tmp_path, monkeypatch):
    from logitlab.data import tfds_builders

    def arrays(self):
        features, labels = np.zeros((20, 13)), np.zeros(20, int)
        labels[15] = 7  # not a class: fails in the midst of writing
        return features, labels, np.arange(20) < 3

    monkeypatch.setattr(tfds_builders.Wine, "_arrays", arrays)
    with pytest.raises(UnavailableDataset, match="'wine' is not prepared in data_dir"):
        prepare("wine", tmp_path)
    assert files(tmp_path) == []
    monkeypatch.undo()
    assert len(load("wine", tmp_path)["test"]["y"]) == 36


def test_killed_preparation_is_not_taken_for_a_whole_one(tmp_path):
    script = """
    import sys, time
    import numpy as np
    from logitlab.data import prepare, tfds_builders

    def rows():
        for i in range(142):
            if i == 100:  # the lock is held, and the file half written
                sys.__stdout__.write("w")
                sys.__stdout__.flush()
                time.sleep(60)
            yield i, {"features": np.zeros(13, "f4"), "label": 0, "index": i}

    tfds_builders.Wine._split_generators = lambda self, _: {"train": rows()}
    prepare("wine", sys.argv[1])
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.read(1) == b"w"
        assert any(name.startswith("incomplete.") for name in files(tmp_path))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert "dataset_info.json" not in files(tmp_path)
    assert len(load("wine", tmp_path)["train"]["y"]) == 142
    assert not any(name.startswith("incomplete.") for name in files(tmp_path))


def test_no_tensorflow_and_no_early_imports(data_dir):
    script = """
    import sys
    from logitlab import data
    heavy = {"grain", "sklearn", "tensorflow", "tensorflow_datasets"}
    assert not heavy & set(sys.modules), heavy & set(sys.modules)
    batches = data.stream("wine", "train", 8, seed=0, data_dir=sys.argv[1])
    next(batches())
    assert {"grain", "tensorflow_datasets"} < set(sys.modules)
    assert "tensorflow" not in sys.modules
    """
    subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), data_dir],
        check=True,
    )


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(batch_size=0), "batch_size is 0, expected an int from 1 on"),
        (dict(batch_size=143), "batch_size is 143, but there are 142 rows"),
        (dict(seed=-1), "seed is -1, expected an int from 0 on"),
        (dict(epochs=0), "epochs is 0, expected an int from 1 on"),
        (dict(threads=0), "threads is 0, expected an int from 1 on"),
        (dict(process_count=3), "batch_size is 32, expected a multiple of 3 processes"),
        (
            dict(process_index=2, process_count=2),
            "process_index is 2, expected an int from 0 to 1",
        ),
        (dict(remainder="keep"), "remainder is 'keep', expected one of"),
        (dict(split="nope"), "split is 'nope', expected one of wine's: .*'train': 142"),
        (dict(rows=[0, 142]), "rows has 0 to 142, expected 0 to 141"),
        (dict(rows=[-1, 3]), "rows has -1 to 3, expected 0 to 141"),
        (dict(rows=[3, 3]), "rows has a position twice"),
        (dict(rows=[0.5]), r"rows has shape \(1,\) and dtype float64, expected ints"),
        (dict(labels=[0, 1]), r"labels has shape \(2,\) .*expected ints \[142\]"),
        (dict(labels=np.zeros(142)), "labels has .*dtype float64, expected ints"),
    ],
)
def test_stream_errors(wine, kwargs, message):
    with pytest.raises(ValueError, match=message):
        wine(**kwargs)


@pytest.mark.parametrize("step", [-1, 1.5])
def test_step_errors(wine, step):
    for call in (wine(), lambda s: wine()[s]):
        with pytest.raises(ValueError, match=f"step is {step}, expected an int from 0"):
            call(step)
    with pytest.raises(IndexError, match="step is 4, expected 0 to 3"):
        wine(epochs=1)[4]
