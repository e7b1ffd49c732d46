import subprocess

import pytest

from logitlab.report.conclusion import _commit


@pytest.fixture
def repository(tmp_path):
    """A repository that tracks ``mine.py`` and not ``.venv/installed.py``."""

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", *who, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True)

    (tmp_path / ".venv").mkdir()
    for name in ("mine.py", ".venv/installed.py"):
        (tmp_path / name).write_text("x = 1\n")
    git("init")
    git("add", "mine.py")
    git("commit", "-m", "first")
    return tmp_path, git("rev-parse", "HEAD").stdout.strip()


def test_the_commit_is_that_of_the_code(repository):
    folder, head = repository
    assert _commit(str(folder / "mine.py")) == head
    assert _commit(str(folder / ".venv/installed.py")) == "not known"
    assert _commit(str(folder / "gone/mine.py")) == "not known"


def test_changes_are_said(repository):
    folder, head = repository
    (folder / "mine.py").write_text("x = 2\n")
    assert _commit(str(folder / "mine.py")) == f"{head}, with changes"
