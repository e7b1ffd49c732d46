import numpy as np
import pytest

from logitlab.train.files import write_file
from logitlab.train.results import ArmResult
from logitlab.train.writers import Table, rows_of


def row(step, **numbers):
    return {"arm": "a", "seed": 0, "step": step, **numbers}


def test_rows_columns_and_digits(tmp_path):
    table = Table(tmp_path / "m.csv")
    table.append([row(0, loss=np.float32(0.1))])
    table.append([row(1, loss=np.float64(1) / 3, extra=2)])
    table.append([row(2, loss=np.float32("inf"), extra=np.float32("nan"))])
    assert table.path.read_text() == (
        "arm,seed,step,loss,extra\n"
        "a,0,0,0.1,\na,0,1,0.3333333333333333,2\na,0,2,inf,nan\n"
    )
    assert Table(table.path).rows[1]["extra"] == "2"


def test_half_a_row_is_dropped(tmp_path):
    path = tmp_path / "m.csv"
    Table(path).append([row(0, loss=1.0), row(1, loss=2.0)])
    whole = path.read_text()
    path.write_text(whole + "a,0,2,3.")
    table = Table(path)
    assert [r["step"] for r in table.rows] == ["0", "1"]
    assert path.read_text() == whole


def test_an_empty_file_is_an_empty_table(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("arm,se")
    table = Table(path)
    table.append([row(0, loss=1.0)])
    assert path.read_text() == "arm,seed,step,loss\na,0,0,1.0\n"


def test_keep(tmp_path):
    table = Table(tmp_path / "m.csv")
    table.append([row(i, loss=i) for i in range(4)])
    table.keep(lambda r: int(r["step"]) < 2)
    assert table.path.read_text() == "arm,seed,step,loss\na,0,0,0\na,0,1,1\n"


def test_names_with_commas_and_quotes_survive(tmp_path):
    table = Table(tmp_path / "m.csv")
    table.append([{"arm": 'a, "b"', "seed": 0, "step": 0, "loss": 1.0}])
    assert Table(table.path).rows[0]["arm"] == 'a, "b"'


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_file(path, "old")

    def full(descriptor):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="no space"):
            write_file(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_results_line_up_points_and_seeds():
    numbers = {"loss": np.array([1.0, 2.0])}
    rows = rows_of("a", (5, 7), [True, True], 0, numbers)
    rows += rows_of("a", (5, 7), [False, True], 10, {"loss": np.array([9.0, 0.5])})
    rows = [{k: str(v) for k, v in r.items()} for r in rows]
    result = ArmResult("label", (5, 7), rows)
    np.testing.assert_array_equal(result.steps, [0, 10])
    np.testing.assert_array_equal(result["loss"], [[1, 2], [np.nan, 0.5]])
    np.testing.assert_array_equal(result.final("loss"), [1, 0.5])
    np.testing.assert_array_equal(result.first_step("loss", 1.0), [0, 0])
    np.testing.assert_array_equal(result.first_step("loss", 3.0), [np.inf, np.inf])
    assert list(result) == ["loss"]
    with pytest.raises(KeyError):
        result["los"]


def test_results_of_an_arm_without_rows():
    result = ArmResult("label", (0,), [])
    assert result.steps.shape == (0,)
    assert len(result) == 0
