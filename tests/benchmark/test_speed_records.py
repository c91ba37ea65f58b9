"""What the committed measurements of speed say, and that the page says the same."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def record(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_the_page_is_that_of_the_records():
    script = [sys.executable, ROOT / "benchmarks" / "speed_tables.py", "--check"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_full_network_is_as_fast_as_promised():
    found = record("speed-mrl-x2-kspace")
    by_size = {size["lr"]: size for size in found["sizes"]}
    for lr in (128, 256):
        assert by_size[lr]["ratio_vs_eager_torch"] >= 3.0
        assert by_size[lr]["ratio_vs_matmul"] >= 1.8
    assert found["growth_of_seconds_per_pixel"] <= 1.15
    for size in found["sizes"]:
        for name, row in size["engines"].items():
            assert row["difference"] <= 1e-4, name


@pytest.mark.parametrize("model", ["mrl-x2-bicubic", "mrl-x2-kspace", "mrl-fast-x2-bicubic"])
def test_air_costs_little(model):
    found = record(f"air-{model}")
    inside = [found[k]["psnr_inside"] for k in ("figures_whole", "figures_without_air")]
    assert inside[0] == pytest.approx(inside[1], abs=0.01)
    assert found["gain"] >= (1.3 if model == "mrl-x2-bicubic" else 1.0)


def test_starts_are_quick_and_large_slices_fit():
    for name in ("frontier", "frontier-avx2"):
        found = record(name)
        assert found["starts"]["help"] < 0.3
        assert found["starts"]["one_slice_beyond_arithmetic"] < 0.7
        assert found["peak_megabytes"]["2048"] < 1000


def test_a_training_step_is_near_its_bare_convolutions():
    assert record("training-small-steps")["ratio"] >= 0.85
    assert record("training-single")["ratio"] >= 0.85
    steps = {kind: record(f"training-{kind}")["step_seconds"] for kind in ("single", "mixed")}
    assert steps["mixed"] < steps["single"] / 3
