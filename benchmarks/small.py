"""What a small network can be: sizes, re-parameterised convolutions, a teacher. At equal budgets.

    python benchmarks/small.py STORE --json benchmarks/results/small.json

x2, bicubic; all see the same patches in the same order, on one thread, and are judged on the
store's validation patients. What the file holds already is not done again.

- Sizes: channels x units of the multi-resolution network, begun as interpolation.
- `grown`: sizes between those that are shipped, grown from the largest shipped one that fits in.
- The two sizes that are shipped go on from the shipped weights in three ways. `plain`. `rep`: each
  3x3 convolution is trained as the sum of itself, a 1x1 convolution and a chain of 1x1 to twice the
  channels, 3x3 and 1x1, which make one 3x3 convolution afterwards. `taught`: the target is the
  mean of the HR patch and what the full shipped network makes of the LR patch; with a squared
  error that is the gradient of both errors by halves.

CPU seconds are those of ONNX Runtime, which runs every size, for a slice of 256x256 LR samples.
"""

import argparse
import copy
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from mrlift.benchmark.contest import write
from mrlift.benchmark.quality import circumstances
from mrlift.benchmark.speed import multiply_adds
from mrlift.inference.choice import choose, open_engine
from mrlift.inference.zoo import find_weights
from mrlift.training import loop
from mrlift.training.config import recipe_from
from mrlift.training.export import export
from mrlift.training.loop import Run
from mrlift.training.store import SliceStore

SIZES = [(32, 2), (32, 4), (32, 6), (32, 9), (48, 4), (48, 6), (64, 2), (64, 4), (64, 6), (64, 9)]
SHIPPED = {"mrl-tiny-x2-bicubic": (32, 4), "mrl-fast-x2-bicubic": (64, 4)}
GROWN = {(32, 6): "tiny", (48, 4): "tiny", (48, 6): "tiny", (64, 6): "fast"}
VARIANTS = ["plain", "rep", "taught"]
TEACHER, SHARE = "mrl-x2-bicubic", 0.5
ANEW, ON = 2.5e6, 5e6  # LR pixels of a run
SIDE = 256  # LR samples of the slice that is timed


class Sum(nn.Module):
    """A 3x3 kernel as the sum of three branches, of which two begin as zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 2 * channels
        self.point = nn.Parameter(torch.zeros(channels, channels, 1, 1))
        self.last = nn.Parameter(torch.zeros(channels, inner))
        self.middle = nn.Parameter(nn.init.kaiming_normal_(torch.empty(inner, inner, 3, 3)))
        self.first = nn.Parameter(nn.init.kaiming_normal_(torch.empty(inner, channels)))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The merged kernel: a step costs hardly more than without branches."""
        chain = torch.einsum("oa,abij,bc->ocij", self.last, self.middle, self.first)
        return weight + nn.functional.pad(self.point, (1, 1, 1, 1)) + chain


def branch(run: Run) -> None:
    """Put `Sum` into each convolution of the units."""
    for unit in run.network.units:
        for layer in (unit.first, unit.second):
            parametrize.register_parametrization(layer, "weight", Sum(layer.in_channels))
    run.average = copy.deepcopy(run.network).requires_grad_(False)
    run.optimiser = loop._optimiser(run.network, run.recipe.training)


def teach(run: Run) -> None:
    """Mix what the teacher makes of LR patches into their targets."""
    card, weights = find_weights(TEACHER)
    engine = open_engine(choose(card, weights, 1)[0].engine, weights, 1)
    draw = run.sampler.draw

    def mixed(step: int, rank: int, world: int) -> tuple[np.ndarray, np.ndarray]:
        lr, hr = draw(step, rank, world)
        return lr, np.float32((1 - SHARE) * hr + SHARE * engine(lr[:, 0])[:, None])

    run.sampler.draw = mixed


def train(
    store: SliceStore, size: tuple[int, int], rate: float, pixels: float, folder: Path, start: str
) -> Run:
    """A run that is ready to begin."""
    channels, units = size
    recipe = recipe_from({
        "network": {"name": "mrl", "scale": 2, "units": units, "channels": channels},
        "data": {"degradation": "bicubic", "lr_patch": 40, "rescale": [1.0, 0.85, 0.7, 0.6]},
        "training": {
            "optimiser": "adamw", "learning_rate": rate, "loss": "squared", "clip": 0.0,
            "batch": 8, "lr_pixels": pixels, "ema": 0.999, "precision": "single",
        },
    })  # fmt: skip
    return Run(recipe, store, folder, start=Path(start) if start else None)


def finish(run: Run, folder: Path) -> dict[str, Any]:
    """Train; the validation gain in dB, and what the size costs."""
    began = time.monotonic()
    before = run.validate()
    run.train(every=math.inf)
    row = {
        "lr_pixels": run.history[-1]["lr_pixels"],
        "gain_before": round(before, 4),
        "gain": round(run.history[-1]["gain"], 4),
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    if any(parametrize.is_parametrized(m) for m in run.network.modules()):
        return row
    card = export(loop.load_checkpoint(folder), folder / "x.onnx")
    engine = open_engine("onnx", find_weights(str(folder / "x.onnx"))[1], 1)
    image = np.random.default_rng(0).random((1, SIDE, SIDE), dtype=np.float32)
    seconds = []
    for _ in range(5):
        began = time.process_time()
        engine(image)
        seconds.append(time.process_time() - began)
    return row | {"multiply_adds": multiply_adds(card), "cpu_seconds": round(min(seconds), 4)}


def main() -> None:
    """Do what is missing in the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = SliceStore(options.store)
    known = json.loads(options.json.read_text()) if options.json.exists() else {}
    rows: dict[str, Any] = known.get("rows", {})
    jobs = [(f"{c}x{u}", (c, u), "", 1.5e-3, ANEW) for c, u in SIZES]
    jobs += [(f"{n} {v}", SHIPPED[n], n, 6e-4, ON) for n in SHIPPED for v in VARIANTS]
    jobs += [
        (f"{c}x{u} grown", (c, u), f"mrl-{name}-x2-bicubic", 2e-4, ON)
        for (c, u), name in GROWN.items()
    ]
    for name, size, start, rate, pixels in jobs:
        if name in rows:
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = train(store, size, rate, pixels, Path(folder), start)
            for variant, change in (("rep", branch), ("taught", teach)):
                if name.endswith(variant):
                    change(run)
            rows[name] = finish(run, Path(folder))
        print(name, rows[name], flush=True)
        command = f"python benchmarks/small.py {options.store.name} --json {options.json.name}"
        write(options.json, circumstances(command) | {"rows": rows})


if __name__ == "__main__":
    main()
