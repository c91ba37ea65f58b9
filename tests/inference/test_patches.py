"""Patches change nothing, whatever the engine, the sizes and the grid."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import grids, scales

import mrlift
from mrlift.inference import patches
from mrlift.inference.card import Card
from mrlift.inference.choice import installed
from mrlift.inference.engines import bicubic_engine
from mrlift.inference.patches import upscale_slice
from mrlift.resampling import bicubic_up


def card(scale, grid="edges", receptive_field=4, padding=4):
    return Card(
        name="bicubic", network={}, scale=scale, grid=grid, degradation="bicubic",
        normalisation="", receptive_field=receptive_field, padding=padding, spacing=(0.5, 1.0),
        training={}, data=(), licence="", metrics={}, sha256="",
    )  # fmt: skip


@given(st.integers(1, 40), st.integers(1, 40), scales, grids, st.integers(5, 50), st.integers(0, 9))
def test_any_patch_size_gives_bicubic(height, width, scale, grid, core, seed):
    """Bicubic interpolation as the engine: splitting, mirroring and joining must be exact."""
    image = np.random.default_rng(seed).random((height, width), dtype=np.float32)
    result = upscale_slice(image, bicubic_engine(scale, grid), card(scale, grid), core)
    np.testing.assert_allclose(result, bicubic_up(image, scale, grid), atol=1e-6)


@pytest.mark.parametrize("core", [16, 33, 64])
def test_a_network_in_patches_equals_the_whole_slice(random_weights, core):
    model = mrlift.load_model(random_weights)
    image = np.random.default_rng(0).random((97, 121), dtype=np.float32)
    whole = upscale_slice(image, model.engine, model.card, core=1000)
    parts = upscale_slice(image, model.engine, model.card, core=core)
    assert np.abs(whole - parts).max() <= 1e-5
    # The overlap is needed: without it the seams show.
    seams = dataclasses.replace(model.card, receptive_field=model.card.padding)
    assert np.abs(whole - upscale_slice(image, model.engine, seams, core=core)).max() > 1e-4


def test_the_shipped_network_in_patches_equals_the_whole_slice():
    model = mrlift.load_model()
    image = np.random.default_rng(0).random((90, 70), dtype=np.float32)
    whole = upscale_slice(image, model.engine, model.card, core=1000)
    parts = upscale_slice(image, model.engine, model.card, core=40)
    assert np.abs(whole - parts).max() <= 1e-5


@pytest.mark.parametrize(("scale", "most"), [(2, 4e-6), (3, 6e-6), (4, 6e-6)])
def test_patches_are_rounded_as_the_slice(monkeypatch, scale, most):
    """The engine winograd computes tiles; those of patches lie where those of the slice do.

    With tiles that begin where a patch does, results differ about twice as much.
    """
    if "winograd" not in installed():
        pytest.skip("the engine winograd is not to be had here")
    model = mrlift.load_model(f"mrl-x{scale}-bicubic", engine="winograd")
    image = np.random.default_rng(0).random((90, 70), dtype=np.float32)
    whole = upscale_slice(image, model.engine, model.card)

    def difference():
        return np.abs(whole - upscale_slice(image, model.engine, model.card, core=47))

    aligned = difference()
    assert aligned.max() <= most
    monkeypatch.setattr(patches, "_at_tile", lambda sample: max(0, sample))
    anywhere = difference()
    assert aligned.std() < 0.65 * anywhere.std()
