"""What is written beside the data, and collections that the user fetches."""

import tomllib
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import head, write_series
from test_transfer import SERIES

from mrlift.collections.by_hand import read_by_hand
from mrlift.collections.index import Source
from mrlift.collections.provenance import refuse_other_collection, write_sources, write_split
from mrlift.errors import InputError, OutputError

SOURCE = Source('A "fine" collection, doi 10.1/a', "CC BY 4.0", "10.1/a", "Müller & Sons (2020).")
NAME = "brain-tumor-progression"


def test_one_source_matches_everything(tmp_path):
    write_sources(tmp_path, [SERIES], {(SERIES.doi, SERIES.licence): SOURCE}, "From a test.")
    assert tomllib.loads((tmp_path / "sources.toml").read_text()) == {
        "source": [
            {
                "match": "**",
                "name": SOURCE.name,
                "licence": "CC BY 4.0",
                "url": "https://doi.org/10.1/a",
            }
        ]
    }
    text = (tmp_path / "LICENCE.txt").read_text()
    for words in (SOURCE.name, "https://creativecommons.org/licenses/by/4.0/", SOURCE.citation):
        assert words in text
    assert text.endswith("From a test.\n")


def test_several_licences_are_told_apart_by_series(tmp_path):
    other = replace(SERIES, licence="CC BY-NC 4.0", uid="1.2.4", folder=PurePosixPath("P2/1.2.4"))
    found = {
        (SERIES.doi, SERIES.licence): SOURCE,
        (other.doi, other.licence): replace(SOURCE, licence=other.licence),
    }
    write_sources(tmp_path, [SERIES, other], found, "")
    tables = tomllib.loads((tmp_path / "sources.toml").read_text())["source"]
    assert {t["match"]: t["licence"] for t in tables} == {
        "P1/1.2.3/**": "CC BY 4.0",
        "P2/1.2.4/**": "CC BY-NC 4.0",
    }


@given(st.text(), st.text())
def test_any_name_is_read_back_as_it_was(tmp_path_factory, name, licence):
    folder = tmp_path_factory.mktemp("p")
    source = Source(name, licence, "10.1/a", "")
    try:
        name.encode(), licence.encode()
    except UnicodeEncodeError:  # lone surrogates cannot be in a file
        return
    series = replace(SERIES, licence=licence)
    write_sources(folder, [series], {(series.doi, licence): source}, "")
    (table,) = tomllib.loads((folder / "sources.toml").read_text(encoding="utf-8"))["source"]
    assert (table["name"], table["licence"]) == (name, licence)


def test_a_folder_of_another_collection_is_refused(tmp_path):
    refuse_other_collection(tmp_path, [SOURCE])
    write_sources(tmp_path, [SERIES], {(SERIES.doi, SERIES.licence): SOURCE}, "")
    refuse_other_collection(tmp_path, [SOURCE])
    with pytest.raises(OutputError, match="holds another collection: A"):
        refuse_other_collection(tmp_path, [replace(SOURCE, name="B")])
    for text in ("not toml [", "source = 3", 'source = ["x"]', ""):
        (tmp_path / "sources.toml").write_text(text)
        with pytest.raises(OutputError, match="no list of sources"):
            refuse_other_collection(tmp_path, [SOURCE])


def test_a_split_is_written_as_folders(tmp_path):
    parts = {"train": [(PurePosixPath("P1/1.2"), 5), (PurePosixPath("P2/1.3"), 6)], "test": []}
    write_split(tmp_path, "paper", "patient", 7, parts)
    assert tomllib.loads((tmp_path / "split.toml").read_text()) == {
        "name": "paper",
        "by": "patient",
        "seed": 7,
        "train": {"slices": 11, "series": ["P1/1.2", "P2/1.3"]},
        "test": {"slices": 0, "series": []},
    }


@pytest.mark.parametrize("make", [False, True])
def test_without_the_data_the_error_says_how_to_get_it(tmp_path, make):
    folder = tmp_path / "btp"
    if make:
        folder.mkdir()
        (folder / "readme.txt").write_text("nothing yet")
    with pytest.raises(InputError) as caught:
        read_by_hand(NAME, folder)
    for words in ("https://doi.org/10.7937/K9/TCIA.2018.15quzvnb", str(folder), "NBIA", "remind"):
        assert words in str(caught.value)


def test_what_the_user_put_there_is_read(tmp_path):
    for p in range(2):
        voxels = head((12, 10, 11))
        write_series(
            tmp_path / f"deep/P{p}/s", voxels, series=f"1.2.{p}", PatientID=f"P{p}",
            SeriesDescription="T1post",
        )  # fmt: skip
    series = read_by_hand(NAME, tmp_path)
    assert [(s.patient, s.uid, str(s.folder), s.images) for s in series] == [
        ("P0", "1.2.0", "deep/P0/s", 11),
        ("P1", "1.2.1", "deep/P1/s", 11),
    ]
    size = sum(p.stat().st_size for p in tmp_path.rglob("*.dcm")) / 1e6
    assert sum(s.megabytes for s in series) == pytest.approx(size)


def test_series_that_share_a_folder_are_refused(tmp_path):
    write_series(tmp_path / "s", series="1.2.1", order=range(4))
    write_series(tmp_path / "s", series="1.2.2", order=range(4, 8))
    with pytest.raises(InputError, match="found several series in"):
        read_by_hand(NAME, tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"")
    with pytest.raises(InputError, match=r"a.dcm is no DICOM file"):
        read_by_hand(NAME, tmp_path)
