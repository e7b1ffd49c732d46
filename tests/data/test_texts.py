"""Documents in random access, and the windows that are cut out of them."""

import numpy as np
import pytest

from configs.language_model import get_config
from experiments.common import studies
from logitlab.data import text_documents, text_windows

TEXTS = [
    b"first document",
    b"",
    "zweites \N{LATIN SMALL LETTER U WITH DIAERESIS}".encode(),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set called ``small_texts``, as TFDS leaves it there."""
    import tensorflow_datasets as tfds

    class SmallTexts(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"text": tfds.features.Text(), "size": np.int64}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(),
                "validation": self._generate_examples(),
            }

        def _generate_examples(self):
            for i, text in enumerate(TEXTS * 30):
                yield i, {"text": text, "size": len(text)}

    folder = tmp_path_factory.mktemp("tfds")
    SmallTexts(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_documents_of_a_data_set(folder):
    documents = text_documents("small_texts", "train", folder)
    assert len(documents) == 90
    assert {*documents} == {*TEXTS}
    with pytest.raises(IndexError, match="document 90 of 90"):
        documents[90]
    with pytest.raises(ValueError, match=r"expected one of small_texts's: \['text'\]"):
        text_documents("small_texts", "train", folder, feature="txt")
    with pytest.raises(ValueError, match="split is 'tests'"):
        text_documents("small_texts", "tests", folder)


def test_windows_are_stretches_of_the_documents_in_their_order():
    joined = b"\n\n".join(TEXTS * 12)
    windows = text_windows(TEXTS, 50, 40, seed=(0, 7))
    assert windows.dtype == np.uint8
    assert all(row.tobytes() in joined for row in windows)
    assert len({row.tobytes() for row in windows}) > 10
    np.testing.assert_array_equal(
        text_windows(TEXTS, 50, 40, seed=(0, 7), rows=slice(10, 20)), windows[10:20]
    )
    assert (text_windows(TEXTS, 50, 40, seed=(0, 8)) != windows).any()


def test_every_byte_of_a_document_may_begin_a_window():
    starts = text_windows([bytes(range(100))], 3000, 1, seed=0)
    assert len(np.unique(starts)) == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 1, 1), "documents is empty"),
        ((TEXTS, 0, 1), "count is 0"),
        ((TEXTS, 1, 0), "length is 0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        text_windows(*arguments, seed=0)


def test_a_language_model_reads_a_data_set(folder):
    config = get_config("smoke")
    config.data.dataset, config.data.data_dir = "small_texts", str(folder)
    study = studies.build(config)
    batch = next(study.arms["decoder"].data["train"].batches(3))["tokens"]
    assert batch.shape == (8, 17)
    joined = b"\n\n".join(TEXTS * 2) + b"\n\n"
    words = {*joined}
    assert {*batch.ravel().tolist()} <= words
    assert "the data set small_texts" in study.summary
    assert 0 < study.arms["bigram"].values(None)["bits_per_byte"] < 8
