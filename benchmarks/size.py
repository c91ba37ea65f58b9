"""What a larger network is worth: the shipped one at x2 and larger ones grown from it, trained on.

    python benchmarks/size.py STORE 4e6 --json benchmarks/results/size.json

All begin with the output of the shipped weights and see the same patches in the same order, by
recipes/muon-x2.toml on one thread. Besides the gain at the end the file has the gains on the way,
the time, and the gain of the shipped weights themselves.
"""

import dataclasses
import tempfile
import time
from pathlib import Path

import torch
from augmentation import arguments, write

from mrlift.training.config import load_recipe
from mrlift.training.loop import Run
from mrlift.training.store import SliceStore

RECIPE = Path(__file__).parents[1] / "recipes/muon-x2.toml"
START = Path("mrl-x2-bicubic")
SIZES = [(128, 9), (128, 12), (192, 9)]


def main() -> None:
    """Train each size and write what it gave."""
    options = arguments(__doc__)
    torch.set_num_threads(1)
    store, recipe, found = SliceStore(options.store), load_recipe(RECIPE), {}
    for channels, units in SIZES:
        size = dataclasses.replace(recipe.network, channels=channels, units=units)
        training = dataclasses.replace(recipe.training, lr_pixels=options.pixels, seed=1)
        changed = dataclasses.replace(recipe, network=size, training=training)
        with tempfile.TemporaryDirectory() as folder:
            run = Run(changed, store, Path(folder), start=START)
            before, began = run.validate(), time.monotonic()
            run.train(every=120)
        found[f"{channels} x {units}"] = {
            "before": round(before, 4),
            "gain": round(run.history[-1]["gain"], 4),
            "on_the_way": {int(row["lr_pixels"]): round(row["gain"], 4) for row in run.history},
            "minutes": round((time.monotonic() - began) / 60, 1),
        }
        print(f"{channels} x {units}", found[f"{channels} x {units}"], flush=True)
        write(options, found)


if __name__ == "__main__":
    main()
