"""Table 3: counts of arithmetic, and what a record of times holds."""

import pytest

torch = pytest.importorskip("torch", reason="networks need the train extra")

from mrlift.benchmark import timing  # noqa: E402
from mrlift.networks import NETWORKS  # noqa: E402


@pytest.mark.parametrize(
    ("name", "scale", "each"),
    [
        ("espcn", 2, 21_184),  # weights of all layers: each is used once for an LR pixel
        ("fsrcnn", 3, 12_464),  # as its paper counts them
        ("mrl", 2, 2_655_360 + 9 * 129 * 8 * 8),  # the paper's convolutions, nine deconvolutions
        ("srcnn", 2, 4 * 8_032),  # on HR, where interpolation adds a little
    ],
)
def test_multiply_adds_for_an_lr_pixel(name, scale, each):
    found = timing.multiply_adds(NETWORKS[name](scale).eval(), 24) / 24**2
    assert found == pytest.approx(each, rel=0.005 if name == "srcnn" else 1e-9)


def test_span_is_counted_as_merged():
    network = NETWORKS["span"](2).eval()
    assert timing.multiply_adds(network, 8) / 64 == pytest.approx(475_540)


def test_a_record_of_times(monkeypatch):
    monkeypatch.setattr(timing, "methods", lambda: ["espcn", "fscwn"])
    record = timing.measure(3, 48, 1, 2, "a test")
    assert (record["lr"], record["threads"], record["rounds"]) == (16, 1, 2)
    assert set(record["networks"]) == {"espcn", "mrlift"}  # FSCWN has no x3
    for row in record["networks"].values():
        assert 0 < row["fastest"] <= row["seconds"]
        assert row["multiply_adds"] > 0
    assert record["networks"]["mrlift"]["model"] == "mrl-x3-bicubic"
