"""How fast engines are beside each other: medians of runs in turn, on slices of several sizes.

Engines are timed on whole slices, without patches and with air. The yardstick of the machine is
the product of two 2048x2048 matrices in single precision by numpy, on the same threads; rates
count the arithmetic of direct convolutions, so that a rate above it is one of saved arithmetic.
"""

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mrlift.benchmark.quality import circumstances
from mrlift.errors import InputError
from mrlift.inference.card import Card
from mrlift.inference.engines import Engine, Slices

SIZES = (64, 128, 256, 512)  # LR samples a side
MATRIX = 2048
WARM = 256  # LR samples a side up to which a first run is left out: beyond, warming up is nothing
EAGER = "eager torch"  # nine deconvolutions, as the paper writes them


def multiply_adds(card: Card) -> int:
    """Of the convolutions, for each LR pixel; 2,655,360 for the full network."""
    channels, units = card.network["channels"], card.network["units"]
    return int(9 * channels + units * 2 * 9 * channels**2)


def measure_size(
    engines: dict[str, Engine], default: str, card: Card, size: int, rounds: int
) -> dict[str, Any]:
    """Seconds of each engine on one size^2 slice, the rounds in turn, with all ratios."""
    rng = np.random.default_rng(0)
    image = rng.random((1, size, size), dtype=np.float32)
    left, right = rng.random((2, MATRIX, MATRIX), dtype=np.float32)
    works: dict[str, Callable[[], Slices]] = {"matmul": lambda: left @ right}
    works |= {name: partial(engine, image) for name, engine in engines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    results: dict[str, Slices] = {}
    for turn in range(rounds + (size <= WARM)):
        for name, work in works.items():
            began = time.perf_counter()
            results[name] = work()
            if turn or size > WARM:
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rate = 2 * MATRIX**3 / medians.pop("matmul")
    work_done = 2 * multiply_adds(card) * size**2
    reference = results[EAGER if EAGER in engines else "onnx"]
    rows = {
        name: {
            "seconds": value,
            "seconds_per_megapixel": value / size**2 * 1e6,
            "gflops": work_done / value / 1e9,
            "ratio_vs_matmul": work_done / value / rate,
            "ratio_vs_eager_torch": medians[EAGER] / value if EAGER in medians else None,
            "difference": float(np.abs(results[name] - reference).max()),
        }
        for name, value in medians.items()
    }
    return {
        "lr": size,
        "rounds": rounds,
        "matmul_gflops": rate / 1e9,
        "default_engine": default,
        "ratio_vs_eager_torch": rows[default]["ratio_vs_eager_torch"],
        "ratio_vs_matmul": rows[default]["ratio_vs_matmul"],
        "engines": rows,
    }


def peak_megabytes(model: str, engine: str, size: int, threads: int) -> float | None:
    """Peak memory of a process of its own that upscales one slice; Linux only, else None."""
    code = (
        "import re, sys, numpy as np, mrlift\n"
        "model, engine, size, threads = sys.argv[1:]\n"
        "model = mrlift.load_model(model, engine=engine, threads=int(threads))\n"
        "image = np.random.default_rng(0).random((int(size), int(size), 1), dtype=np.float32)\n"
        "mrlift.upscale(mrlift.Volume(image, np.eye(4)), model=model, whole=True)\n"
        # Not getrusage: its peak includes the process that this one was started from.
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    command = [sys.executable, "-c", code, model, engine, str(size), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    return round(int(done.stdout) * 1024 / 1e6) if done.returncode == 0 else None


def growth(results: Sequence[dict[str, Any]], engine: str) -> float:
    """Seconds per pixel of the largest size over those of LR 128, or the smallest there is."""
    by_size = {r["lr"]: r["engines"][engine]["seconds_per_megapixel"] for r in results}
    return float(by_size[max(by_size)] / by_size[128 if 128 in by_size else min(by_size)])


def as_json(
    results: Sequence[dict[str, Any]], card: Card, command: str, threads: int
) -> dict[str, Any]:
    """The results with everything needed to place and repeat them."""
    default = results[0]["default_engine"]
    return {
        **circumstances(command),
        "threads": threads,
        "model": card.name,
        "sha256": card.sha256,
        "multiply_adds_per_lr_pixel": multiply_adds(card),
        "default_engine": default,
        "growth_of_seconds_per_pixel": growth(results, default),
        "sizes": list(results),
    }


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds over LR pixels for every engine, with lines of linear growth.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("Pictures need matplotlib: `pip install mrlift[bench]`.") from error
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for name in results[0]["engines"]:
        pixels = [r["lr"] ** 2 for r in results]
        seconds = [r["engines"][name]["seconds"] for r in results]
        axes.loglog(pixels, seconds, "o-", label=name)
        if name == results[0]["default_engine"]:
            straight = [seconds[0] * p / pixels[0] for p in pixels]
            axes.loglog(pixels, straight, "--", color="grey", label="linear growth")
    axes.set(xlabel="LR pixels of the slice", ylabel="seconds for one slice")
    axes.set_xticks(
        [r["lr"] ** 2 for r in results], [f"{r['lr']}$^2$" for r in results], minor=False
    )
    axes.minorticks_off()
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def rounds_for(size: int, most: int) -> int:
    """Fewer rounds for large slices, three at least where `most` allows."""
    return max(1, min(most, max(3, math.ceil(most * 128 / size))))
