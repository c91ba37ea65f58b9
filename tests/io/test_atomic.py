"""Outputs appear whole or not at all."""

import pytest

from mrlift.errors import OutputError
from mrlift.io import replacing


def test_a_file_appears_when_the_block_ends(tmp_path):
    with replacing(tmp_path / "a.txt") as part:
        part.write_text("new")
        assert not (tmp_path / "a.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("folder", [False, True])
def test_an_error_leaves_nothing_and_harms_nothing(tmp_path, folder):
    old = tmp_path / "a"
    if folder:
        old.mkdir()
    (old / "00001.dcm" if folder else old).write_text("old")

    def fail():
        with replacing(old, overwrite=True, folder=folder) as part:
            (part / "x" if folder else part).write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (old / "00001.dcm" if folder else old).read_text() == "old"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "00001.dcm").write_text("old")
    with replacing(tmp_path / "a", overwrite=True, folder=True) as part:
        (part / "00002.dcm").write_text("new")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["00002.dcm"]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_existing_outputs_are_refused(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(OutputError, match="--overwrite"), replacing(tmp_path / "a"):
        pass


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OutputError, match="does not exist"), replacing(tmp_path / "b" / "a"):
        pass
