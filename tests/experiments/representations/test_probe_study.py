import numpy as np

from configs.representations import get_config
from experiments.representations import probe


def test_windows_of_the_test_are_of_other_parts():
    config = get_config("probe-smoke")
    found = probe.windows(config)
    texts = probe.modules(config.classes, config.candidates)
    assert len(texts[0]) <= len(texts[1])
    assert found["probe"]["x"].shape == found["test"]["x"].shape == (20, 8)
    assert found["train"]["x"].shape == (32, 9)
    for k, text in enumerate(texts):
        cut = len(text) * 7 // 10
        for name, part in (("probe", text[:cut]), ("test", text[cut:])):
            rows = found[name]["x"][found[name]["y"] == k]
            assert all(bytes(row.astype(np.uint8)) in part for row in rows)


def test_hashes_are_those_of_the_n_grams():
    config = get_config("probe-smoke")
    with config.unlocked():
        config.grams = (2, 3)
    got = probe.hashes(np.array([[1, 2, 1, 2], [1, 2, 3, 4]]), config)
    assert got.shape == (2, 5)
    assert got[0, 0] == got[0, 2] == got[1, 0]
    assert got.max() < config.buckets


def test_bad_configs_are_refused(refused):
    refused("representations:probe", "classes", 100, "config.classes is 100")
    refused("representations:probe", "heads", 5, "config.heads is 5")


def test_end_to_end(run_study):
    done = run_study("representations:probe")
    assert done.figures == ["accuracy"]
