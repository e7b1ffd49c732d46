import jax.numpy as jnp
import numpy as np
import pytest
from harness.tensorboard import events

from logitlab.train.files import write_file
from logitlab.train.results import ArmResult
from logitlab.train.writers import Table, TensorBoard, rows_of


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


def test_metrics_of_every_kind_are_read_back(tmp_path):
    kinds = {
        "bool": np.array([True, False]),
        "uint8": np.array([255, 0], np.uint8),
        "int64": np.array([-(2**53), 7]),
        "bfloat16": np.array([0.5, -3], jnp.bfloat16),
        "float16": np.array([np.inf, 0.25], np.float16),
    }
    table = Table(tmp_path / "m.csv")
    table.append(rows_of("a", (0, 1), [True, True], 0, kinds))
    result = ArmResult("a", (0, 1), Table(table.path).rows)
    for name, values in kinds.items():
        np.testing.assert_array_equal(result[name], values[None].astype(float))
    # As earlier versions wrote bools.
    old = [row(0, right="True"), row(0, right="False") | {"seed": "1"}]
    np.testing.assert_array_equal(ArmResult("a", (0, 1), old)["right"], [[1, 0]])


@pytest.mark.parametrize("name", ["arm", "seed", "step"])
def test_metrics_do_not_hide_the_columns(name):
    with pytest.raises(ValueError, match=f"'a' has a metric '{name}', which is the na"):
        rows_of("a", (0,), [True], 0, {name: np.ones(1)})


@pytest.mark.parametrize("values", [["high"], [1j], [None]])
def test_metrics_are_real_numbers(values):
    with pytest.raises(
        ValueError, match="metric 'x' of arm 'a' has dtype .*, expected"
    ):
        rows_of("a", (0,), [True], 0, {"x": np.array(values)})


def test_events_are_replaced(tmp_path):
    board = TensorBoard(tmp_path)
    board.append([row(step, loss=step / 2, right=np.True_) for step in range(5)])
    board.append([row(3, loss=1.0) | {"arm": "b"}])
    rows = [row(str(step), loss=str(step / 2), right="1", none="") for step in (0, 1)]
    board.replace("a", rows)
    board.append([row(2, loss=7.0)])
    board.close()
    want = [(0, "loss", 0), (0, "right", 1), (1, "loss", 0.5), (1, "right", 1)]
    assert events(tmp_path / "a/seed_0") == [*want, (2, "loss", 7)]
    assert events(tmp_path / "b") == [(3, "loss", 1)]
    again = TensorBoard(tmp_path)  # in another process
    again.replace("a", rows)
    again.close()
    assert events(tmp_path / "a") == want
