"""What more steps and Muon are worth for the same pixels: the smallest network, from interpolation.

    python benchmarks/steps.py STORE 3e6 --json benchmarks/results/steps.json

Each run sees the same number of LR pixels, by recipes/shipped/tiny-x2.toml but for the
optimiser, its rate, and how many patches a step takes.
"""

from augmentation import arguments, gains, write

from mrlift.training.store import SliceStore

MOMENTUM = 0.95  # of Muon
RUNS = [
    ("adamw", 8e-4, 8),
    ("adamw", 8e-4, 2),
    ("adamw", 8e-4, 1),
    ("adamw", 2e-3, 2),
    ("adamw", 2e-3, 1),
    ("muon", 3e-3, 8),
    ("muon", 3e-3, 2),
    ("muon", 3e-3, 1),
]


def main() -> None:
    """Run all and write what they gave."""
    options = arguments(__doc__)
    store, found = SliceStore(options.store), {}
    for optimiser, rate, batch in RUNS:
        changed = {"optimiser": optimiser, "momentum": MOMENTUM, "learning_rate": rate}
        changed |= {"batch": batch, "lr_pixels": options.pixels, "seed": 1}
        name = f"{optimiser}, rate {rate:g}, {batch} patches a step"
        found[name] = gains(store, changed)["mean"]
        print(name, f"{found[name]:+.3f} dB", flush=True)
    write(options, found)


if __name__ == "__main__":
    main()
