import hashlib
import sysconfig

import numpy as np
import pytest

from logitlab import data


@pytest.fixture
def folder(tmp_path):
    """Files named so that both splits get some, and folders that are left out."""
    for i in range(40):
        path = tmp_path / ("a" if i % 2 else "b/c") / f"m{i}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % i)
    for name in ("test", "idlelib", "lib2to3", "site-packages", "x/__pycache__"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "left_out.py").write_bytes(b"never")
    (tmp_path / "a/notes.txt").write_bytes(b"no source")
    return tmp_path


def test_splits_by_file_in_the_order_of_paths(folder):
    text = data.standard_library_bytes(folder)
    want = {True: b"", False: b""}
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("m*.py"))
    assert len(names) == 40
    for name in names:
        number = int(hashlib.md5(name.encode()).hexdigest(), 16)
        want[number % 10 == 0] += (folder / name).read_bytes()
    assert text.train.tobytes() == want[False]
    assert text.validation.tobytes() == want[True]
    assert text.train.dtype == text.validation.dtype == np.uint8
    assert text.sha256 == hashlib.sha256(want[False] + want[True]).hexdigest()


def test_the_hash_tells_texts_apart(folder):
    before = data.standard_library_bytes(folder)
    (folder / "a/m1.py").write_bytes(b"another")
    assert data.standard_library_bytes(str(folder)).sha256 != before.sha256


def test_the_library_of_this_python():
    text = data.standard_library_bytes()
    again = data.standard_library_bytes(sysconfig.get_path("stdlib"))
    assert text.sha256 == again.sha256
    assert 5_000_000 < len(text.train) < 30_000_000
    share = len(text.validation) / (len(text.validation) + len(text.train))
    assert 0.03 < share < 0.2  # a tenth of the files, whose sizes differ
    assert b"import" in text.validation.tobytes()


@pytest.mark.parametrize("files", [(), ("one.py",)])
def test_without_source(tmp_path, files):
    for name in files:
        (tmp_path / name).write_text("1")
    with pytest.raises(ValueError, match="has no Python source for"):
        data.standard_library_bytes(tmp_path)


def test_text_is_of_the_first_modules_alone(folder):
    for name, source in {"b.py": "é", "a.py": "1\n", "c.py": "never"}.items():
        (folder / name).write_text(source, "utf-8")
    assert data.standard_library_text(2, folder) == "1\né"
    (folder / "b.py").write_bytes(b"\xff")
    assert data.standard_library_text(2, folder) == "1\n\ufffd"
    for modules in (0, 4):
        with pytest.raises(ValueError, match=f"modules is {modules}, expected 1 to 3"):
            data.standard_library_text(modules, folder)
