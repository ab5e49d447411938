"""The file store: a file appears whole or not at all, and only its owner may read it."""

import stat
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest

from dues.reports.files import LocalFiles, report_folder, report_key

pytestmark = pytest.mark.unit

REPORT = UUID("01a1f9dd-7da8-78da-bd91-f276f595de07")
KEY = f"reports/{REPORT}/a.csv"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_appears_whole_at_the_end(files: LocalFiles, tmp_path: Path):
    with files.create(KEY) as draft:
        draft.write(b"one,")
        draft.write(b"two")
        assert files.size(KEY) is None
    assert files.size(KEY) == draft.size == 7
    assert draft.sha256() == sha256(b"one,two").hexdigest()
    assert b"".join(files.read(KEY, 0, 7)) == b"one,two"
    assert [path.name for path in (tmp_path / "files" / report_folder(REPORT)).iterdir()] == ["a.csv"]


def test_it_is_private_whatever_the_umask(files: LocalFiles, tmp_path: Path):
    with files.create(KEY) as draft:
        draft.write(b"x")
        assert mode(draft.workspace) == 0o700
        assert [mode(path) for path in draft.workspace.parent.glob("*.part")] == [0o600]
    path = tmp_path / "files" / KEY
    assert mode(path) == 0o600
    assert [mode(folder) for folder in list(path.parents)[:3]] == [0o700] * 3


def test_a_failure_leaves_nothing(files: LocalFiles, tmp_path: Path):
    def fail() -> None:
        with files.create(KEY) as draft:
            draft.write(b"x")
            (draft.workspace / "temporary").write_text("y")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list((tmp_path / "files" / report_folder(REPORT)).iterdir()) == []


def test_delete_removes_all_below_and_one_alone(files: LocalFiles, tmp_path: Path):
    other = f"reports/{REPORT}/b.csv"
    for key in (KEY, other):
        with files.create(key) as draft:
            draft.write(b"x")
    files.delete(KEY)
    assert (files.size(KEY), files.size(other)) == (None, 1)
    (tmp_path / "files" / f"{KEY}.part").write_text("of a killed writer")
    (tmp_path / "files" / f"{KEY}.work").mkdir()
    files.delete(report_folder(REPORT))
    files.delete(report_folder(REPORT))
    assert list((tmp_path / "files" / "reports").iterdir()) == []


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 600_000), (262_143, 262_145), (599_999, 600_000), (5, 5)])
def test_any_range_is_read(files: LocalFiles, start: int, stop: int):
    content = bytes(range(250)) * 2400
    with files.create(KEY) as draft:
        draft.write(content)
    part = files.read(KEY, start, stop)
    assert b"".join(part) == content[start:stop]
    part.close()


def test_what_is_missing_is_said_before_anything_is_read(files: LocalFiles):
    with pytest.raises(FileNotFoundError):
        files.read(KEY, 0, 1)


@pytest.mark.parametrize("key", ["../a", "reports/../../a", "/etc/passwd", "a//b", "", ".", "é"])
def test_a_key_never_leaves_the_folder(files: LocalFiles, key: str):
    for use in (files.size, files.delete, lambda key: files.read(key, 0, 1)):
        with pytest.raises(ValueError, match="not a key"):
            use(key)


def test_each_attempt_has_a_key_of_its_own(files: LocalFiles):
    keys = {report_key(REPORT, "csv") for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith(report_folder(REPORT) + "/") and key.endswith(".csv") for key in keys)
