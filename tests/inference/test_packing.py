"""Packed weights are smaller, and come out as they went in."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from mrlift.inference.card import load_card
from mrlift.inference.packing import PACKED, pack, read_weights, unpack
from mrlift.inference.zoo import SHIPPED, find_weights, shipped_names


@given(st.binary(max_size=2000))
def test_what_is_packed_comes_out_the_same(content):
    assert unpack(pack(content)) == content


@given(st.binary(max_size=300), st.data())
def test_what_is_damaged_is_refused_or_the_same(content, data):
    """The checksum of zlib stands behind every byte of the content."""
    packed = bytearray(pack(content))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ValueError):
        assert unpack(bytes(packed)) == content


@given(st.binary(max_size=300), st.data())
def test_what_is_cut_off_is_refused(content, data):
    packed = pack(content)
    with pytest.raises(ValueError, match=r"cut off|not a zlib stream"):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])


def test_float16_weights_shrink_by_about_a_tenth():
    weights = np.random.default_rng(0).normal(0, 0.03, 100_000).astype("<f2").tobytes()
    assert len(pack(weights)) < 0.9 * len(weights)
    for name in shipped_names():
        assert (SHIPPED / f"{name}{PACKED}").stat().st_size < 0.92 * len(find_weights(name)[1])


def test_the_script_makes_shipped_files_of_an_export(tiny_weights, tmp_path):
    script = [sys.executable, ROOT / "benchmarks/pack.py", tiny_weights, "--into", tmp_path]
    subprocess.run(script, check=True, capture_output=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tiny.json", f"tiny{PACKED}"]
    assert read_weights(tmp_path / f"tiny{PACKED}") == tiny_weights.read_bytes()
    assert load_card(tmp_path / "tiny.json") == load_card(tiny_weights.with_suffix(".json"))
