"""What a larger network is worth: the shipped one and larger ones grown from it, trained on.

    python benchmarks/size.py STORE 5e6 RECIPE WEIGHTS 128x9 128x12 192x9 \
        --json benchmarks/results/size-x2.json

All begin with the output of WEIGHTS, a shipped set of the full network, and see the same patches
in the same order, by RECIPE but for their number, on one thread. Besides the validation gain at
the end the file has that of WEIGHTS themselves, the gains on the way, and the time.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import torch

from mrlift.benchmark.quality import circumstances
from mrlift.training.config import load_recipe
from mrlift.training.loop import Run
from mrlift.training.store import SliceStore


def main() -> None:
    """Train each size and write what it gave."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("pixels", type=float)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("sizes", nargs="+", help="channels x units")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    store, recipe = SliceStore(options.store), load_recipe(options.recipe)
    record = circumstances(
        f"python benchmarks/size.py {options.store.name} {options.pixels:g} {options.recipe.name} "
        f"{options.weights.name} {' '.join(options.sizes)}"
    )
    found = record["sizes"] = {}
    for name in options.sizes:
        channels, units = map(int, name.split("x"))
        size = dataclasses.replace(recipe.network, channels=channels, units=units)
        training = dataclasses.replace(recipe.training, lr_pixels=options.pixels, seed=1)
        changed = dataclasses.replace(recipe, network=size, training=training)
        with tempfile.TemporaryDirectory() as folder:
            run = Run(changed, store, Path(folder), start=options.weights)
            before, began = run.validate(), time.monotonic()
            run.train(every=120)
        found[name] = {
            "before": round(before, 4),
            "gain": round(run.history[-1]["gain"], 4),
            "on_the_way": {int(row["lr_pixels"]): round(row["gain"], 4) for row in run.history},
            "minutes": round((time.monotonic() - began) / 60, 1),
        }
        print(name, found[name], flush=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
