"""Pairs of patches."""

import numpy as np
import pytest

pytest.importorskip("h5py", reason="training needs the train extra")
pytest.importorskip("torch", reason="training needs the train extra")

from hypothesis import given
from hypothesis import strategies as st
from runs import phantom_store, recipe

from mrlift.errors import ConfigError, InputError
from mrlift.inference.degradation import degrade_slice
from mrlift.resampling import bicubic_rescale, filled_size
from mrlift.training.patches import PAPER, PatchSampler, Place


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    shapes = ((64, 72), (61, 83), (90, 70))
    return phantom_store(tmp_path_factory.mktemp("store") / "s.h5", shapes, slices=2)


def settings(scale=2, grid="edges", kind="bicubic", **more):
    data = {"lr_patch": 8, "degradation": kind} | more
    return recipe(data, {"scale": scale, "grid": grid})


KINDS = [("edges", "bicubic"), ("paper", "bicubic"), ("edges", "kspace")]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("sizes", [[1.0], [0.7], [1.0, 0.7]])
@pytest.mark.parametrize(("grid", "kind"), KINDS)
def test_a_pair_is_a_part_of_the_turned_sized_and_reduced_slice(store, scale, grid, kind, sizes):
    """Turned before it is degraded, and degraded as a whole: the slice's own path, cut out."""
    sampler = PatchSampler(store, settings(scale, grid, kind, rescale=sizes, stretch=True))
    rng = np.random.default_rng(scale)
    for _ in range(6):
        place = sampler._random(rng)
        lr, hr = sampler.pair(place, rng)
        whole = store.read(place.series, place.index)
        flip_rows, flip_columns, transpose = place.turn
        whole = whole[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
        whole = whole.T if transpose else whole
        for factor in place.factors:  # an axis at a time, each of which comes first once
            sized = whole.T[:, :, None]
            whole = (sized if factor == 1.0 else bicubic_rescale(sized, factor))[..., 0]
        height, width = (filled_size(n, scale, grid) for n in whole.shape)
        whole = np.ascontiguousarray(whole[:height, :width])
        reduced = degrade_slice(whole, scale, kind, grid, 0.0, rng)
        (top, left), side = place.corner, sampler.side
        np.testing.assert_allclose(lr, reduced[top : top + 8, left : left + 8], atol=3e-6)
        rows, columns = (slice(scale * c, scale * c + side) for c in (top, left))
        np.testing.assert_allclose(hr, whole[rows, columns], atol=1e-6)


def test_rows_and_columns_share_a_size_unless_stretched(store):
    for stretch, sizes in ((False, 2), (True, 4)):
        sampler = PatchSampler(store, settings(rescale=[1.0, 0.7], stretch=stretch))
        places = [sampler._random(np.random.default_rng(k)) for k in range(60)]
        assert len({p.factors for p in places}) == sizes
        assert stretch or all(down == across for down, across in (p.factors for p in places))


def test_batches_depend_on_seed_and_step_only(store):
    draw = PatchSampler(store, recipe()).draw
    again = PatchSampler(store, recipe()).draw
    np.testing.assert_array_equal(draw(5)[0], again(5)[0])
    assert not np.array_equal(draw(5)[0], draw(6)[0])
    other = PatchSampler(store, recipe(seed=1)).draw
    assert not np.array_equal(draw(5)[0], other(5)[0])


@given(st.integers(0, 1000), st.sampled_from([0, 3]))
def test_shares_of_processes_make_up_the_batch(store, step, lr_step):
    sampler = PatchSampler(store, recipe({"lr_step": lr_step}, loss="squared", balance=True))
    lr, hr, weight = sampler.draw(step)
    for world in (2, 4):
        for rank in range(world):
            part_lr, part_hr, part_weight = sampler.draw(step, rank, world)
            np.testing.assert_array_equal(part_lr, lr[rank::world])
            np.testing.assert_array_equal(part_hr, hr[rank::world])
            np.testing.assert_array_equal(part_weight, weight[rank::world])


def test_balanced_slices_weigh_by_what_interpolation_misses(tmp_path):
    """Half of the intensities: half of the error and twice the weight, and pairs as before."""
    store = phantom_store(tmp_path / "s.h5", ((64, 64),))
    for loss in ("absolute", "decibels"):
        with pytest.raises(ConfigError, match="balance needs squared errors"):
            recipe(loss=loss, balance=True)
    plain = PatchSampler(store, recipe(loss="sum"))
    sampler = PatchSampler(store, recipe(loss="sum", balance=True))
    lr, _, weight = sampler.draw(0)
    np.testing.assert_array_equal(lr, plain.draw(0).lr)
    assert plain.draw(0).weight is None
    read = store.read
    halved = PatchSampler(store, recipe(loss="sum", balance=True))
    store.read = lambda *place: read(*place) / 2
    np.testing.assert_allclose(halved.draw(0).weight, 2 * weight, rtol=1e-4)
    store.read = lambda *place: 0 * read(*place)
    assert PatchSampler(store, recipe(loss="sum", balance=True)).draw(0).weight.max() <= 10.01


def test_patches_are_mostly_tissue(tmp_path):
    store = phantom_store(tmp_path / "s.h5", ((200, 200),))
    hr = PatchSampler(store, recipe(batch=64)).draw(0).hr
    assert np.mean(hr > 0.1) > 0.6


def test_noise_is_drawn_between_its_bounds(store):
    place = Place(0, 0, (1.0, 1.0), (False, False, False), (10, 10))
    clean = PatchSampler(store, settings(kind="kspace"))
    noisy = PatchSampler(store, settings(kind="kspace", noise=[0.05, 0.05]))
    pairs = [s.pair(place, np.random.default_rng(k)) for s in (clean, noisy) for k in range(20)]
    difference = np.stack([lr for lr, _ in pairs[20:]]) - np.stack([lr for lr, _ in pairs[:20]])
    assert np.std(difference) == pytest.approx(0.05, rel=0.1)
    np.testing.assert_array_equal(pairs[0][1], pairs[20][1])


class TestRegularGrid:
    @given(
        scale=st.sampled_from([2, 3, 4]),
        grid=st.sampled_from(["paper", "edges"]),
        size=st.integers(8, 12),
        step=st.integers(1, 12),
    )
    def test_the_count_is_the_closed_formula(self, store, scale, grid, size, step):
        """floor((n - m) / step) + 1 places an axis of n LR samples for patches of m."""
        sampler = PatchSampler(store, settings(scale, grid, lr_patch=size, lr_step=step))
        expected = 0
        for series in store.of("train"):
            slices, height, width = store.shapes[series]
            lr = [(n - 1) // scale + 1 if grid == "paper" else n // scale for n in (height, width)]
            expected += slices * ((lr[0] - size) // step + 1) * ((lr[1] - size) // step + 1)
        assert len(sampler) == expected

    @pytest.mark.parametrize(("scale", "hr"), [(2, 27), (3, 28), (4, 29)])
    def test_the_papers_patches(self, store, scale, hr):
        """Section 3.1: LR/HR 14/27, 10/28, 8/29."""
        size, step = PAPER[scale]
        sampler = PatchSampler(store, settings(scale, "paper", lr_patch=size, lr_step=step))
        lr_patches, hr_patches, _ = sampler.draw(0)
        assert lr_patches.shape[1:] == (1, size, size)
        assert hr_patches.shape[1:] == (1, hr, hr)

    def test_an_epoch_sees_every_place_once_in_a_new_order(self, store):
        sampler = PatchSampler(store, settings(lr_step=5))
        rng = np.random.default_rng(0)
        epochs = []
        for epoch in range(2):
            items = range(epoch * len(sampler), (epoch + 1) * len(sampler))
            places = [sampler._regular(item, rng) for item in items]
            epochs.append(
                [(p.series, p.index, p.corner[:: -1 if p.turn[2] else 1]) for p in places]
            )
        assert len(set(epochs[0])) == len(sampler)
        assert sorted(epochs[0]) == sorted(epochs[1])
        assert epochs[0] != epochs[1]


def test_slices_that_are_too_small_for_a_patch(store):
    with pytest.raises(InputError, match="smaller than a patch of 128 HR samples"):
        PatchSampler(store, settings(lr_patch=64))
