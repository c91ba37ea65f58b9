"""A tiny recipe, a store of phantoms, and runs of one in the other."""

import numpy as np
import torch
from phantoms import head

from mrlift.training.config import recipe_from
from mrlift.training.loop import Run
from mrlift.training.store import SliceStore, new_store

torch.set_num_threads(1)  # these networks are too small to share, least of all on a busy machine

TINY = {
    "network": {"units": 2, "channels": 8},
    "data": {"lr_patch": 12},
    "training": {"batch": 4, "lr_pixels": 4 * 12 * 12 * 12, "learning_rate": 2e-3, "ema": 0.5},
    "card": {"name": "tiny", "licence": "CC0"},
}


def recipe(data=None, network=None, **training):
    return recipe_from(
        TINY
        | {
            "network": TINY["network"] | (network or {}),
            "data": TINY["data"] | (data or {}),
            "training": TINY["training"] | training,
        }
    )


def phantom_store(path, shapes=((64, 72),) * 3, slices=1):
    """One series a shape, of patient "a", and one more of patient "b" to validate on."""
    with new_store(path) as writer:
        for number, shape in enumerate((*shapes, (64, 72))):
            stack = np.moveaxis(head((*shape, slices), seed=number), -1, 0).astype(np.uint16)
            patient = "b" if number == len(shapes) else "a"
            writer.add(
                stack,
                float(np.percentile(stack[stack > 0], 99.9)),
                name=f"s{number}",
                patient=patient,
                source="phantom",
                licence="CC0",
                contrast="T1",
                spacing=(0.9, 0.8),
                filled=(1.0, 1.0),
                cropped=False,
                slices=tuple(range(slices)),
            )
        writer.split(["train"] * len(shapes) + ["validation"])
    return SliceStore(path)


def run_in(folder, settings=None, **options):
    folder.mkdir(exist_ok=True, parents=True)
    path = folder.parent / f"{folder.name}.h5"
    store = SliceStore(path) if path.exists() else phantom_store(path)
    return Run(settings or recipe(), store, folder, **options)


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.network.parameters()])
