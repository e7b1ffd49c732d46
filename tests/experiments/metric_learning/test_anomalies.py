import jax
import numpy as np
import pytest

from experiments.common.datasets import digits
from experiments.metric_learning import anomalies

SIZES = dict(images=20, anomalous=4, block=3, flip=2)


def test_what_images_are_made_of():
    key = jax.random.key(0)
    pixels, changed = map(np.asarray, anomalies.draw(key, 3, **SIZES))
    assert pixels.shape == changed.shape == (20, 16, 16)
    assert changed.sum((1, 2)).tolist() == [9, 4, 9, 4] + [0] * 16
    noise = pixels[[0, 2]][changed[[0, 2]]].reshape(2, 9)
    np.testing.assert_array_equal(*noise)  # the same defect
    x, y = digits(centered=False)
    known = {image.astype("f4").tobytes() for image in x[y == 3]}
    tiles = pixels[4:].reshape(16, 2, 8, 2, 8).swapaxes(2, 3).reshape(-1, 64)
    found = [tile.tobytes() for tile in tiles]
    assert set(found) <= known
    assert len(set(found)) == len(found)  # each in one image only
    again, _ = anomalies.draw(key, 3, **(SIZES | dict(anomalous=2)))
    whole = 1 - pixels[1], np.asarray(again[1])
    inverted = changed[1] & np.isclose(*whole)
    assert inverted.sum() in (0, 4)


def test_patches_are_what_is_around_a_pixel():
    image = np.arange(12.0).reshape(1, 3, 4)
    got = np.asarray(anomalies.patches(image))
    np.testing.assert_array_equal(got[0, 1, 1], [0, 1, 2, 4, 5, 6, 8, 9, 10])
    np.testing.assert_array_equal(got[0, 0, 0], [0, 0, 0, 0, 0, 1, 0, 4, 5])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("anomalous", 3, "config.anomalous is 3"),
        ("anomalous", 40, "config.anomalous is 40"),
        ("images", 44, "config.images is 44, expected at most 43"),
        ("classes", (10,), "config.classes is"),
        ("block", 9, "config.block is 9"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("metric_learning:anomalies", key, value, message)


def test_end_to_end(run_study):
    done = run_study("metric_learning:anomalies")
    assert done.figures == ["auroc", "maps"]
    for name in anomalies.LABELS:
        arm = done.results[name]
        kinds = [arm.final(f"auroc/{kind}") for kind in anomalies.KINDS]
        np.testing.assert_allclose(arm.final("auroc"), np.mean(kinds, 0), rtol=1e-5)
    maps = done.results["mutual"].arrays["maps"]
    assert (maps >= 0).all()
