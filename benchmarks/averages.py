"""What averages of the weights of two networks are worth, one trained on from the other.

    python benchmarks/averages.py STORE RECIPE FIRST SECOND --json averages-x4.json [--keep RUN]

FIRST and SECOND are whatever `mrlift train --start` takes and RECIPE's network allows. The file has
the validation gain for shares of SECOND from 0 to 1. `--keep` makes a run of the best of them, for
`mrlift export` or `--start`, whose card will tell the budget of SECOND.
"""

import argparse
import math
import tempfile
from pathlib import Path

from mrlift.benchmark.contest import write
from mrlift.benchmark.quality import circumstances
from mrlift.training.checkpoint import Checkpoint, save_checkpoint
from mrlift.training.config import load_recipe
from mrlift.training.loop import Run
from mrlift.training.store import SliceStore

SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)


def keep(run: Run, gain: float, folder: Path) -> None:
    """Write the averaged weights as a run of their own, which ends where that of SECOND did."""
    *before, last = run.facts["start"]
    weights, facts = run.average.state_dict(), run.facts | {"start": before}
    history = [{"step": 0, "lr_pixels": last["lr_pixels"], "gain": gain}]
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(Checkpoint(run.recipe, 0, weights, weights, {}, history, facts), folder)


def main() -> None:
    """Validate each average and write what it gave."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("store", "recipe", "first", "second"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--keep", type=Path, metavar="RUN")
    options = parser.parse_args()
    store, recipe = SliceStore(options.store), load_recipe(options.recipe)
    with tempfile.TemporaryDirectory() as folder:
        run, other = (
            Run(recipe, store, Path(folder), start=start)
            for start in (options.first, options.second)
        )
        first, second = run.network.state_dict(), other.network.state_dict()
        found = {}
        for share in SHARES:
            mean = {key: first[key].lerp(second[key], share) for key in first}
            other.average.load_state_dict(mean)
            gain = other.validate()
            if options.keep and gain > max(found.values(), default=-math.inf):
                keep(other, gain, options.keep)
            found[share] = round(gain, 4)
            print(share, f"{found[share]:+.4f} dB", flush=True)
    names = [getattr(options, name).name for name in ("store", "recipe", "first", "second")]
    command = f"python benchmarks/averages.py {' '.join(names)} --json {options.json.name}"
    write(options.json, circumstances(command) | {"validation_gain": found})


if __name__ == "__main__":
    main()
