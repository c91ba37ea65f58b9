"""The benchmark of the training loop."""

import json

import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from runs import phantom_store, recipe
from test_loop import RECIPE, mrlift_command

from mrlift.training.throughput import measure


@pytest.mark.parametrize(
    ("settings", "inputs"),
    [
        (recipe(), 2 * 8 + 1),  # channels that are deconvolved: of each U_i, and of x
        (recipe(loss="sum", precision="single"), 8 + 1),
        (recipe(network={"upsampling": "double"}), 8 + 1),
        (recipe(network={"upsampling": "single"}), 8),
    ],
)
def test_rates_count_the_convolutions(tmp_path, settings, inputs):
    store = phantom_store(tmp_path / "s.h5")
    found = measure(settings, store, tmp_path / "run", rounds=2)
    inner = 4 * 9 * 8 * 8  # four 3x3 convolutions of 8 channels
    pixels = 4 * 12 * 12
    assert found.bare_rate * found.bare_seconds == pytest.approx(6e-9 * pixels * inner)
    whole = inner + 72 + inputs * 64  # and the head, and 8x8 taps
    assert found.step_rate * found.step_seconds == pytest.approx(6e-9 * pixels * whole)
    assert 0 < found.ratio == found.step_rate / found.bare_rate


@pytest.mark.slow
def test_the_command_writes_its_circumstances(tmp_path):
    phantom_store(tmp_path / "s.h5")
    (tmp_path / "r.toml").write_text(RECIPE)
    code, text = mrlift_command(
        "bench", "training", tmp_path / "r.toml", "--data", tmp_path / "s.h5", "--rounds", "1",
        "--json", tmp_path / "t.json", "--threads", "1",
    )  # fmt: skip
    assert code == 0, text
    assert "ratio" in text
    record = json.loads((tmp_path / "t.json").read_text())
    assert {"machine", "commit", "date", "command", "ratio", "threads"} <= set(record)
