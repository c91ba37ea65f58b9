"""The benchmark of speed: its arithmetic, and the command."""

import json

import numpy as np
import pytest
from test_commands import run

import mrlift
from mrlift.benchmark import speed
from mrlift.inference.engines import bicubic_engine

TINY = "mrl-tiny-x2-bicubic"


def test_the_arithmetic_of_the_full_network():
    assert speed.multiply_adds(mrlift.load_model("mrl-x2-bicubic").card) == 2_655_360
    assert speed.multiply_adds(mrlift.load_model(TINY).card) == 74_016


def test_ratios_follow_from_the_seconds():
    card = mrlift.load_model(TINY).card
    engines = {"onnx": bicubic_engine(2), speed.EAGER: bicubic_engine(2)}
    result = speed.measure_size(engines, "onnx", card, 32, 3)
    row = result["engines"]["onnx"]
    assert row["gflops"] == pytest.approx(2 * 74_016 * 32**2 / row["seconds"] / 1e9)
    assert row["ratio_vs_matmul"] == pytest.approx(row["gflops"] / result["matmul_gflops"])
    eager = result["engines"][speed.EAGER]["seconds"]
    assert result["ratio_vs_eager_torch"] == pytest.approx(eager / row["seconds"])
    assert row["difference"] == 0


def test_growth_is_relative_to_lr_128():
    rows = [
        {"lr": n, "engines": {"onnx": {"seconds_per_megapixel": s}}}
        for n, s in ((64, 9.0), (128, 2.0), (512, 2.2))
    ]
    assert speed.growth(rows, "onnx") == pytest.approx(1.1)


def test_the_command(tmp_path):
    pytest.importorskip("matplotlib")
    files = tmp_path / "s.json", tmp_path / "s.png"
    done = run("bench", "speed", "--model", TINY, "--size", 24, "--size", 32, "--rounds", 1,
               "--json", files[0], "--picture", files[1])  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(files[0].read_text())
    assert [size["lr"] for size in record["sizes"]] == [24, 32]
    for size in record["sizes"]:
        assert size["ratio_vs_matmul"] > 0
        assert np.isfinite(size["engines"][record["default_engine"]]["seconds"])
        assert all(row["difference"] <= 1e-4 for row in size["engines"].values())
    assert record["machine"]
    assert str(tmp_path) not in files[0].read_text()
    assert files[1].read_bytes().startswith(b"\x89PNG")
