"""What augmentation is worth: the smallest network, trained on with one thing changed at a time.

    python benchmarks/augmentation.py STORE 16e6 --json benchmarks/results/augmentation.json

Each run begins as bicubic interpolation and sees the same number of LR pixels, by
recipes/shipped/tiny-x2.toml but for what its name says. STORE should hold out whole sources, as
`mrlift data prepare --sources` allows: what augmentation gives on another scanner is the question.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from mrlift.benchmark.quality import circumstances
from mrlift.training.config import load_recipe
from mrlift.training.loop import Run
from mrlift.training.patches import PatchSampler, Place
from mrlift.training.store import SliceStore

RECIPE = Path(__file__).parents[1] / "recipes/shipped/tiny-x2.toml"
SIZES = {"one size": (1.0,), "two sizes": (1.0, 0.7), "four sizes": (1.0, 0.85, 0.7, 0.6)}


class OtherContrasts(PatchSampler):
    """Intensities to a random power: the order of tissues stays, their contrast does not."""

    def pair(self, place: Place, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """As in training, with another power for each pair."""
        self._power = np.exp(rng.uniform(-0.5, 0.5))
        return super().pair(place, rng)

    def _read(self, *arguments: object) -> np.ndarray:
        part = super()._read(*arguments)
        return np.maximum(part, 0) ** np.float32(self._power)


def gains(
    store: SliceStore,
    training: dict[str, object],
    start: Path | None = None,
    contrasts: bool = False,
    **data: object,
) -> dict:
    """Validation gain of one run, for each source and contrast, and in the mean."""
    recipe = load_recipe(RECIPE)
    recipe = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, **data),
        training=dataclasses.replace(recipe.training, **training),
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe, store, Path(folder), start=start)
        if contrasts:
            run.sampler = OtherContrasts(store, recipe)
        run.train(every=1e9)
        return {"mean": run.history[-1]["gain"], **run.facts["validation"]}


def arguments(description: str) -> argparse.Namespace:
    """The command line: a store, a number of LR pixels, a file for the figures."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("pixels", type=float)
    parser.add_argument("--json", type=Path, required=True)
    return parser.parse_args()


def write(options: argparse.Namespace, found: dict) -> None:
    """The figures and where they come from."""
    script = Path(sys.argv[0]).name
    command = f"python benchmarks/{script} {options.store.name} {options.pixels:g}"
    record = circumstances(command) | {"lr_pixels": options.pixels, "validation_gain": found}
    options.json.write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    """Run all and write what they gave."""
    options = arguments(__doc__)
    store = SliceStore(options.store)
    variants = {name: {"rescale": sizes} for name, sizes in SIZES.items()}
    variants["four sizes, other contrasts"] = variants["four sizes"] | {"contrasts": True}
    found = {}
    for name, changed in variants.items():
        found[name] = gains(store, {"lr_pixels": options.pixels, "seed": 1}, **changed)
        print(name, found[name], flush=True)
    write(options, found)


if __name__ == "__main__":
    main()
