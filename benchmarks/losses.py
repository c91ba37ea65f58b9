"""What a loss is worth at the end of training: the smallest network, trained on with each.

    python benchmarks/losses.py STORE 3e6 --json benchmarks/results/losses.json

Each run begins with the shipped `mrl-tiny-x2-bicubic` and sees the same LR pixels, by
recipes/tiny-x2.toml but for the loss, half its rate, and the seed.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from augmentation import gains

from mrlift.benchmark.quality import circumstances
from mrlift.training.losses import LOSSES
from mrlift.training.store import SliceStore

SEEDS = (1, 2)
RATE = 4e-4


def main() -> None:
    """Run all and write what they gave."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("pixels", type=float)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    store, start = SliceStore(options.store), Path("mrl-tiny-x2-bicubic")
    same = {"learning_rate": RATE, "lr_pixels": options.pixels}
    found: dict[str, list[float]] = {name: [] for name in LOSSES}
    for seed in SEEDS:
        for name, seen in found.items():
            seen.append(gains(store, same | {"loss": name, "seed": seed}, start)["mean"])
            print(seed, name, f"{seen[-1]:+.4f} dB", flush=True)
    command = f"python benchmarks/losses.py {options.store.name} {options.pixels:g}"
    record = circumstances(command) | {
        "lr_pixels": options.pixels,
        "validation_gain": found,
        "mean": {name: float(np.mean(seen)) for name, seen in found.items()},
    }
    options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
