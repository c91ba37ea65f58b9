"""What a walk holds in memory: one folder's names, one file's header."""

import tracemalloc

import pydicom
import pytest
from phantoms import head, write_series

pytest.importorskip("distributed", reason="needs the archive extra")

from mrlift.archive.discovery import places
from mrlift.archive.series import look


@pytest.fixture
def peak():
    """Call something; the most bytes that it held at once."""

    def measure(call):
        tracemalloc.start()
        try:
            call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure


def test_a_walk_through_20_000_files_holds_one_folder(tmp_path, peak):
    for number in range(200):
        folder = tmp_path / f"{number // 20}" / f"{number}"
        folder.mkdir(parents=True)
        for name in range(100):
            (folder / f"{name}.nii").touch()
    found = []
    streamed = peak(lambda: found.append(sum(1 for _ in places(tmp_path))))
    assert found == [20_000]
    assert streamed < 500_000
    assert peak(lambda: list(places(tmp_path))) > 10 * streamed  # what it is spared


def test_looking_into_a_folder_holds_one_header(tmp_path, peak):
    files = write_series(tmp_path, head((8, 8, 60)), series="1.2.3")
    for file in files:
        data = pydicom.dcmread(file)
        data.private_block(0x0099, "MRLIFT TEST", create=True).add_new(1, "UN", bytes(200_000))
        data.save_as(file)
    look(tmp_path)  # what is imported when first needed
    found = []
    assert peak(lambda: found.extend(look(tmp_path))) < 1_500_000 < 60 * 200_000
    assert len(found[0].names) == 60
