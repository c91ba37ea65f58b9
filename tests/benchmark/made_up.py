"""A folder of results as `mrlift bench all` leaves it, with made-up figures."""

import json

import numpy as np

from mrlift.benchmark.figures import pack
from mrlift.benchmark.published import TABLE_3
from mrlift.metrics import psnr

GAINS = {
    "srcnn": 1.2, "espcn": 1.6, "fsrcnn": 1.8, "de-cnn": 2.4, "fscwn": 2.2, "span": 2.7,
    "edsr": 2.9, "mrl": 3.0, "mrl-double": 2.8, "mrl-single": 2.5,
}  # fmt: skip
ABOUT = {
    "command": "mrlift bench all", "date": "2026-01-02", "commit": "abc", "machine": "a CPU",
    "version": "0.0",
}  # fmt: skip
SLICES = {"a/one": ("a", 6), "a/two": ("a", 4), "b": ("b", 5), "c": ("c", 7)}


def quality(method, scale, gain):
    rng = np.random.default_rng(scale)
    test = []
    for series, (patient, count) in SLICES.items():
        base = 40 - 3 * scale + rng.normal(0, 1.5, count)
        own = np.random.default_rng([len(method), scale, count]).normal(0, 0.05, count)
        values = base + gain + (own if gain else 0)
        columns = {
            "psnr": values, "psnr_inner": values - 0.1, "psnr_8bit": values - 0.05,
            "psnr_8bit_inner": values - 0.2, "ssim": 0.9 + gain / 100 + 0 * values,
        }  # fmt: skip
        about = {"series": series, "patient": patient, "slices": list(range(count))}
        test.append(about | {k: v.tolist() for k, v in columns.items()})
    record = ABOUT | {"method": method, "scale": scale, "seed": None, "test": test}
    if method == "bicubic":
        return record
    pixels = np.linspace(1, 12, 12) / 12
    return record | {
        "seed": 0,
        "parameters": 1000 * len(method),
        "recipe": {"training": {"learning_rate": 1e-3}},
        "rates": [{"rate": 1e-3, "gain": gain - 0.2}, {"rate": 1e-2, "gain": None}],
        "start": [] if scale == 2 else [{"name": f"{method}-x2", "lr_pixels": 12.5e6}],
        "curve": [
            {"hr_pixels": 50e6 * p, "gain": gain * (1 - np.exp(-5 * p)), "loss": 1 - p}
            for p in pixels
        ],
    }


def times(scale, size):
    rows = {
        m: {"seconds": s * (size / 256) ** 2, "multiply_adds": int(s * 1e9)}
        for m, s in TABLE_3[scale].items()
    }
    rows |= {"span": {"seconds": 0.2, "multiply_adds": 8 * 10**9}}
    rows |= {"edsr": {"seconds": 0.6, "multiply_adds": 22 * 10**9}}
    rows["mrlift"] = rows["mrl"] | {"seconds": rows["mrl"]["seconds"] / 4}
    about = {"scale": scale, "hr": size, "threads": 1, "rounds": 7}
    return ABOUT | about | {"networks": rows}


def figure(methods):
    rng = np.random.default_rng(0)
    slices = []
    for series in ("a/one", "b"):
        truth = np.clip(np.add.outer(np.sin(np.arange(96) / 5), np.cos(np.arange(80) / 7)), 0, 1)
        shown = {}
        for method in methods:
            noisy = truth + rng.normal(0, 0.02, truth.shape)
            value = psnr(truth, noisy, data_range=1.0)
            shown[method] = {"psnr": value, "part": pack(noisy[10:50, 20:60])}
        about = {"series": series, "slice": 1, "window": [10, 20, 40], "truth": pack(truth)}
        slices.append(about | {"methods": shown})
    return ABOUT | {"scale": 2, "slices": slices}


def results(folder):
    """Write the files; returns `folder`."""
    for scale in (2, 3, 4):
        gains = {"bicubic": 0.0} | {
            m: g / (scale - 1)
            for m, g in GAINS.items()
            if scale == 2 or m not in ("fscwn", "mrl-single", "mrl-double")
        }
        for method, gain in gains.items():
            seed = "" if method == "bicubic" else "-s0"
            file = folder / "quality" / f"{method}-x{scale}{seed}.json"
            _write(file, quality(method, scale, gain))
        for size in (256, 512):
            _write(folder / "time" / f"x{scale}-{size}.json", times(scale, size))
    _write(folder / "figure3.json", figure(["bicubic", *(m for m in GAINS if "-s" not in m)][:9]))
    return folder


def _write(file, record):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record))
