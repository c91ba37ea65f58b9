"""What a loss is worth at the end of training: the smallest network, trained on with each.

    python benchmarks/losses.py STORE 3e6 --json benchmarks/results/losses.json

Each run begins with the shipped `mrl-tiny-x2-bicubic` and sees the same LR pixels, by
recipes/shipped/tiny-x2.toml but for the loss, half its rate, and the seed. The last two weigh
squared errors by what interpolation misses of their slice (`training.balance`).
"""

from pathlib import Path

from augmentation import arguments, gains, write

from mrlift.training.losses import LOSSES
from mrlift.training.store import SliceStore

SEEDS = (1, 2)
RATE = 4e-4


def main() -> None:
    """Run all and write what they gave."""
    options = arguments(__doc__)
    store, start = SliceStore(options.store), Path("mrl-tiny-x2-bicubic")
    same = {"learning_rate": RATE, "lr_pixels": options.pixels}
    losses: dict[str, dict[str, object]] = {name: {"loss": name} for name in LOSSES}
    losses |= {f"{name}, balanced": {"loss": name, "balance": True} for name in ("squared", "sum")}
    found: dict[str, list[float]] = {name: [] for name in losses}
    for seed in SEEDS:
        for name, seen in found.items():
            seen.append(gains(store, same | losses[name] | {"seed": seed}, start)["mean"])
            print(seed, name, f"{seen[-1]:+.4f} dB", flush=True)
    write(options, found)


if __name__ == "__main__":
    main()
