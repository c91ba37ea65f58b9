"""What smaller networks save, how long a start takes, and memory of the largest slices.

    python benchmarks/frontier.py --json benchmarks/results/frontier.json [--mrlift COMMAND]

CPU seconds of all threads on a slice of 256x256 LR samples, the engine that this machine takes by
default and, beside it, ONNX Runtime, which every machine has; all weights in turn, medians. Starts
are whole commands in turn with the arithmetic alone, medians too, of the mrlift beside this Python
or of another installation: what else is installed there counts, since pydicom imports some of it,
and which Python. Nothing else should run meanwhile.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mrlift.benchmark.quality import circumstances
from mrlift.benchmark.speed import multiply_adds, peak_megabytes
from mrlift.inference.choice import choose, open_engine
from mrlift.inference.engines import cores
from mrlift.inference.zoo import find_weights, load_model

SAMPLE = Path(__file__).parents[1] / "samples/t1w/N2D_0193.dcm"
SIZES = ("", "fast-", "tiny-")
LARGE = 2048  # LR samples a side


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of all threads of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def seconds(work: Callable[[], object]) -> float:
    """By the clock."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run(command: list[str]) -> None:
    """A command, silently."""
    subprocess.run(command, check=True, capture_output=True)


def frontier(scale: int, rounds: int, side: int = 256) -> list[dict]:
    """CPU seconds of the three sizes at one scale, k-space weights, in turn."""
    image = np.random.default_rng(0).random((1, side, side), dtype=np.float32)
    engines, rows = {}, []
    for size in SIZES:
        card, weights = find_weights(f"mrl-{size}x{scale}-kspace")
        default = choose(card, weights, cores())[0].engine
        rows.append({"model": card.name, "engine": default, "multiply_adds": multiply_adds(card)})
        for engine in dict.fromkeys((default, "onnx")):
            engines[card.name, engine] = open_engine(engine, weights, cores())
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in engines}
    for turn in range(rounds + 1):
        for key, one in engines.items():
            used = cpu_seconds(lambda: one(image))  # noqa: B023
            if turn:
                taken[key].append(used)
    full = rows[0]
    for row in rows:
        for key, engine in (("cpu_seconds", row["engine"]), ("cpu_seconds_onnx", "onnx")):
            row[key] = statistics.median(taken[row["model"], engine])
            row["share_of_full" + key.removeprefix("cpu_seconds")] = row[key] / full[key]
    return rows


def starts(mrlift: str, times: int = 25) -> dict:
    """Seconds of `--help`, of one slice, and of the arithmetic in it.

    So many times, since what is sought is a small difference of two that vary by as much.
    """
    import mrlift as package

    volume = package.load(SAMPLE)
    model = load_model()
    with tempfile.TemporaryDirectory() as folder:
        command = [mrlift, "upscale", str(SAMPLE), "-o", f"{folder}/sr.dcm", "--overwrite"]
        turns = [
            (seconds(lambda: run(command)), seconds(lambda: package.upscale(volume, model=model)))
            for _ in range(times + 1)
        ][1:]
    beyond = [one - arithmetic for one, arithmetic in turns]
    quarter, median, three_quarters = statistics.quantiles(beyond, n=4, method="inclusive")
    return {
        "help": statistics.median(seconds(lambda: run([mrlift, "--help"])) for _ in range(times)),
        "one_slice": statistics.median(one for one, _ in turns),
        "arithmetic": statistics.median(arithmetic for _, arithmetic in turns),
        "one_slice_beyond_arithmetic": median,
        "half_of_turns_beyond_arithmetic": [quarter, three_quarters],
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    here = str(Path(sys.executable).with_name("mrlift"))
    parser.add_argument("--mrlift", default=here)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    command = f"python benchmarks/frontier.py --rounds {options.rounds}"
    if options.mrlift != here:
        command += " --mrlift OTHER/bin/mrlift"
    card, weights = find_weights(None)
    engine = choose(card, weights, cores())[0].engine
    record = {
        **circumstances(command),
        "threads": cores(),
        "lr": 256,
        "scales": {str(n): frontier(n, options.rounds) for n in (2, 3, 4)},
        "starts": starts(options.mrlift),
        "peak_megabytes": {str(LARGE): peak_megabytes(card.name, engine, LARGE, cores())},
    }
    text = json.dumps(record, indent=1) + "\n"
    options.json.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
