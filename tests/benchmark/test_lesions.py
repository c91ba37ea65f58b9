"""Inserted lesions have the volume and contrast that they claim, and the measure finds them so."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import head_volume

from mrlift.benchmark.lesions import (
    CONTRAST,
    insert,
    invented,
    measure,
    measure_lesion,
    middle_slices,
    place,
    shape_of,
    tissue,
)
from mrlift.inference.engines import bicubic_engine
from mrlift.inference.zoo import SHIPPED, Model, load_card
from mrlift.io import load, save

SPACING = (0.5, 0.7)


@given(
    diameter=st.floats(2, 6),
    thickness=st.sampled_from([0.5, 3.0]),
    row=st.floats(20, 21),
    column=st.floats(20, 21),
    seed=st.integers(0, 99),
)
def test_a_lesion_has_the_volume_of_its_ellipsoid(diameter, thickness, row, column, seed):
    rng = np.random.default_rng(seed)
    share = shape_of((40, 40), (row, column), diameter, SPACING, thickness, rng)
    assert share.min() >= 0
    assert share.max() <= 1
    rows, columns = np.mgrid[:40, :40]
    centre = np.array([(share * g).sum() for g in (rows, columns)]) / share.sum()
    assert np.abs(centre - (row, column)).max() < 1
    volume = share.sum() * SPACING[0] * SPACING[1] * thickness
    if thickness > diameter * 1.3:
        assert volume == pytest.approx(np.pi / 6 * diameter**3, rel=0.35)
    else:
        assert volume <= np.pi / 4 * (diameter * 1.3) ** 2 * thickness


def slab():
    """Calm tissue of half a head's size, with a little noise."""
    voxels = np.full((128, 128, 4), 400, np.float32)
    voxels += np.random.default_rng(0).normal(0, 4, voxels.shape).astype(np.float32)
    voxels[:20, :20] = 1000  # so that the scale is above the tissue
    return replace(head_volume(), voxels=voxels, affine=np.diag([0.7, 0.7, 3.0, 1.0]))


def test_lesions_lie_apart_in_calm_tissue_with_their_contrast():
    volume = slab()
    lesions = place(volume, np.random.default_rng(0))
    assert len(lesions) >= 16
    for lesion in lesions:
        assert abs(lesion.height) == pytest.approx(400 * CONTRAST, rel=0.05)
        _, calm = tissue(volume.slices()[lesion.slice_index].astype(float), 1000.0, (0.7, 0.7))
        assert calm[tuple(round(c) for c in lesion.centre)] or calm.any()
    for one in lesions:
        for other in lesions:
            if one is not other and one.slice_index == other.slice_index:
                far = np.subtract(one.centre, other.centre) * 0.7
                assert np.hypot(*far) > 15
    assert {x.diameter for x in lesions} == {2.0, 3.0, 4.0, 6.0}
    assert {np.sign(x.height) for x in lesions} == {1, -1}


def test_the_measure_finds_what_was_inserted():
    volume = slab()
    lesions = place(volume, np.random.default_rng(0))
    difference = insert(volume, lesions).slices() - volume.slices()
    for lesion in lesions:
        mine = difference[lesion.slice_index].astype(float)
        exact = measure_lesion(lesion, mine, (0.7, 0.7))
        assert list(exact.values()) == pytest.approx([0, 0, 0], abs=0.02)
        half = measure_lesion(lesion, 0.4 * mine, (0.7, 0.7))
        assert half["contrast"] == pytest.approx(-0.6, abs=0.01)
        assert half["amount"] == pytest.approx(-0.6, abs=0.01)
        assert half["volume"] == -1


def test_an_invented_blob_is_counted_and_a_real_one_is_not():
    truth = np.full((96, 96), 400.0)
    assert invented(truth, truth, 1000.0, (0.7, 0.7))[0] == 0
    y, x = np.mgrid[:96, :96]
    disc = 100.0 * (np.hypot(y - 40, x - 50) * 0.7 < 2)
    count, area = invented(truth, truth + disc, 1000.0, (0.7, 0.7))
    assert count >= 1
    assert area == pytest.approx(96 * 96 * 0.49 / 100, rel=0.01)
    assert invented(truth + disc, truth + disc, 1000.0, (0.7, 0.7))[0] == 0


def test_all_series_and_methods_are_measured(tmp_path):
    save(slab(), tmp_path / "a.nii.gz")
    save(slab(), tmp_path / "b.nii.gz")
    model = Model(load_card(SHIPPED / "mrl-fast-x2-bicubic.json"), bicubic_engine(2))
    lines = []
    results = measure(tmp_path, [model], 2, 0.0, 0, lines.append)
    assert [r["method"] for r in results] == ["bicubic, x2 bicubic", "mrl-fast-x2-bicubic"]
    bicubic, same = results
    assert len(lines) == 2
    assert bicubic["lesions"] == same["lesions"] >= 16
    for one, other in zip(bicubic["table"], same["table"], strict=True):
        assert one["contrast"] == pytest.approx(other["contrast"], abs=0.01)
    by_size = {r["diameter"]: r["contrast"] for r in bicubic["table"] if r["sign"] > 0}
    assert by_size[2.0] < by_size[6.0] < 0.02
    assert middle_slices(load(tmp_path / "a.nii.gz"), 2).slice_count == 2
