"""The index that ships in a wheel, and what of it is taken: real numbers, no network."""

from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from mrlift.collections import index
from mrlift.collections.index import (
    IndexedSeries,
    folder_name,
    index_version,
    read_collection,
    sources,
)
from mrlift.collections.selection import CLASSIC_MR, kind_of, select
from mrlift.errors import ConfigError, InputError

SERIES = IndexedSeries(
    patient="P1",
    uid="1.2.3",
    folder=PurePosixPath("P1/1.2.3"),
    description="AX T2",
    modality="MR",
    sop_class=CLASSIC_MR,
    derived_by="",
    images=20,
    megabytes=1.0,
    licence="CC BY 4.0",
    doi="10.1/a",
)


@pytest.fixture(scope="module")
def remind():
    pytest.importorskip("idc_index_data", reason="needs the collections extra")
    return read_collection("remind")


def facts(series):
    return len({s.patient for s in series}), len(series), sum(s.images for s in series)


def test_the_open_collections_hold_what_the_documents_say(remind):
    assert index_version() == "25.0.5"
    mr = [s for s in remind if s.modality == "MR"]
    assert facts(mr) == (114, 670, 85057)
    assert {s.licence for s in mr} == {"CC BY 4.0"}
    schwannoma = read_collection("vestibular-schwannoma-seg")
    assert facts([s for s in schwannoma if s.modality == "MR"]) == (242, 484, 47130)
    chosen = select(schwannoma)
    assert facts(chosen.series) == (239, 477, 46370)
    assert chosen.left_out["processed"] == 7  # DIS3D: resampled to correct distortion


def test_the_figures_of_the_page_are_those_of_the_index():
    page = (ROOT / "docs/how-to/download.md").read_text()
    for name in ("remind", "vestibular-schwannoma-seg", "upenn-gbm"):
        series = read_collection(name)
        mr = [s for s in series if s.modality == "MR"]
        chosen = select(series, processed=name == "upenn-gbm").series
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}`")]
        for group in (mr, chosen):
            assert " | {:,}, {:,}, {:,} | ".format(*facts(group)) in line
        assert f"| {sum(s.megabytes for s in chosen) / 1e3:.1f} GB |" in line
        assert {s.licence for s in mr} == {"CC BY 4.0"}


def test_what_is_chosen_of_remind(remind):
    chosen = select(remind)
    assert facts(chosen.series) == (114, 653, 82039)
    assert Counter(kind for _, kind in chosen.chosen) == {
        "T2 2-D": 214,
        "T1 post-contrast 3-D": 168,
        "FLAIR 2-D": 94,
        "T2 3-D": 80,
        "FLAIR 3-D": 73,
        "T1 3-D": 24,
    }
    assert sum(chosen.left_out.values()) + len(chosen.series) == len(remind)
    assert {s.description for s in remind if "MP2RAGE" in s.description}.isdisjoint(
        s.description for s in chosen.series
    )


def test_upenn_is_processed_throughout():
    series = read_collection("upenn_gbm")
    with pytest.raises(InputError, match=r"2601 processed[\s\S]*--processed"):
        select(series)
    chosen = select(series, processed=True)
    assert facts(chosen.series) == (628, 2600, 322577)
    for word in ("dti", "perf", "ep2d"):
        assert not [s for s in chosen.series if word in s.description.lower()]


def test_sources_have_names_citations_and_licences(remind):
    (source,) = sources(select(remind).series).values()
    assert source.name.startswith("The Brain Resection Multimodal Imaging Database (ReMIND), doi")
    assert source.url == "https://doi.org/10.7937/3rag-d070"
    assert source.citation.startswith("Juvekar, P., Dorent, R., Kögl, F.")
    assert "<" not in source.citation
    assert "&amp;" not in source.citation


def test_an_unknown_collection_names_near_ones():
    with pytest.raises(InputError, match=r"no collection 'remindd'. Near: remind"):
        read_collection("remindd")


def test_series_of_other_licences_are_left_out():
    theirs = replace(SERIES, licence="CC BY-NC 4.0", uid="1.2.4")
    chosen = select([SERIES, theirs])
    assert chosen.series == [SERIES]
    assert chosen.left_out == {"licence CC BY-NC 4.0": 1}
    assert select([SERIES, theirs], any_licence=True).series == [SERIES, theirs]
    series = read_collection("duke_breast_cancer_mri")
    with pytest.raises(InputError, match=r"licence CC BY-NC 4.0[\s\S]*--any-licence"):
        select([s for s in series if s.modality == "MR" and not s.derived_by])


def test_without_the_extra_the_command_to_install_it(monkeypatch):
    monkeypatch.setattr(index, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mrlift\[collections\]'"):
        read_collection("remind")


@pytest.mark.parametrize("count", [1, 5, 114, 500])
def test_so_many_patients_are_the_first_ones(remind, count):
    whole = {s.uid for s in select(remind).series}
    part = select(remind, patients=count)
    assert len({s.patient for s in part.series}) == min(count, 114)
    assert {s.uid for s in part.series} <= whole
    fewer = select(remind, patients=max(1, count - 1))
    assert {s.uid for s in fewer.series} <= {s.uid for s in part.series}


@pytest.mark.parametrize(
    ("description", "kind"),
    [
        ("AX T1", "T1"),
        ("t1_mprage_sag_p2_iso", "T1 3-D"),
        ("t1_fl3d_tra_gk_v1_GAD", "T1 post-contrast 3-D"),
        ("3D_AX_T1_precontrast", "T1 3-D"),
        ("3D_AX_T1_postcontrast", "T1 post-contrast 3-D"),
        ("AX T1 SE C+", "T1 post-contrast"),
        ("AXIAL T1 FLOW COMP PRE", "T1"),
        ("T1post", "T1 post-contrast"),
        ("2D_AX_T2_FLAIR", "FLAIR 2-D"),
        ("t2_tirm_tra_dark-fluid", "FLAIR"),
        ("t2_ci3d_tra_1.5mm_v2_448", "T2 3-D"),
        ("2D_COR_T2_BLADE", "T2 2-D"),
        ("AX PD TSE", "PD"),
    ],
)
def test_anatomical_descriptions(description, kind):
    assert kind_of(description) == kind
    assert select([replace(SERIES, description=description)]).chosen[0][1] == kind


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("3-plane loc T2", "localiser"),
        ("T1 localizer", "localiser"),
        ("AAHead_Scout T1", "localiser"),
        ("ep2d_diff_T2 b1000", "diffusion"),
        ("T2 perfusion", "diffusion"),
        ("T1 DCE dynamic", "diffusion"),
        ("3D TOF T1", "diffusion"),
        ("nRCBVreg T2", "computed map"),
        ("ADC T2", "computed map"),
        ("dT1", "computed map"),
        ("T1 map", "computed map"),
        ("T1 MIP", "computed map"),
        ("T1 subtraction sub", "computed map"),
        ("T2 SWI", "computed map"),
        ("3D_SAG_T1_MP2RAGE", "MP2RAGE"),
        ("t1 axial: Processed_CaPTk", "processed"),
        ("T1prereg", "processed"),
        ("t1_fl3d_tra_gk_v1_S2_DIS3D", "processed"),
        ("T2* GRE", "contrast not recognised"),
        ("", "contrast not recognised"),
    ],
)
def test_what_is_no_native_anatomical_image(description, reason):
    chosen = select([SERIES, replace(SERIES, uid="1.9", description=description)])
    assert chosen.series == [SERIES]
    (found,) = chosen.left_out
    assert reason in found


@pytest.mark.parametrize(
    "change",
    [
        {"modality": "SEG"},
        {"sop_class": "1.2.840.10008.5.1.4.1.1.7"},
        {"derived_by": "somebody"},
        {"images": 9},
    ],
)
def test_other_objects_and_short_series_are_left_out(change):
    assert select([SERIES, replace(SERIES, uid="1.9", **change)]).series == [SERIES]


@given(st.text(), st.text())
def test_folder_names_stay_where_they_are_put(one, other):
    name = folder_name(one)
    assert 0 < len(name) <= 80
    assert name.isascii()
    assert not set(name) & set('/\\:*?"<>|\0')
    assert not name.startswith(".")
    assert (folder_name(other) == name) == (other == one)


@pytest.mark.parametrize("text", ["../../etc", "..", ".", "", "a/b", "C:\\x", "Bo=15T", "a" * 300])
def test_folder_names_of_hostile_identifiers(text, tmp_path):
    place = (tmp_path / folder_name(text)).resolve()
    assert place.parent == tmp_path.resolve()


def test_names_of_the_presets_stay_as_they_are(remind):
    assert all(s.folder == PurePosixPath(s.patient, s.uid) for s in remind)
