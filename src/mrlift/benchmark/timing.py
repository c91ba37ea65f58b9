"""Table 3: how long networks take on a CPU, all in eager PyTorch as in the paper, and our engine.

Networks are timed in turn, so that what disturbs the machine disturbs all; weights do not matter
and are fresh. The paper's network runs as it is written, with a deconvolution for each y_i;
mrlift's engine runs the shipped weights of the same network. Multiply-adds are counted by torch,
those of mrlift's engine from the card.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from mrlift.benchmark import speed
from mrlift.benchmark.protocol import GRID, HR_PIXELS, RATES, exists, methods, recipe
from mrlift.benchmark.quality import circumstances
from mrlift.inference.zoo import load_model
from mrlift.networks.engine import as_written
from mrlift.training.loop import build_network

SIZES = (256, 512)  # HR samples a side; at x3 the largest multiple of 3 below
ENGINE = "mrlift"


def measure(scale: int, size: int, threads: int, rounds: int, command: str) -> dict[str, Any]:
    """Medians of `rounds` runs of every network that has this scale, on one slice.

    Args:
        scale: in-plane factor.
        size: HR samples a side.
        threads: of torch and of the engine.
        rounds: timed runs, after one to warm up.
        command: for the record.
    """
    torch.set_num_threads(threads)
    side = size // scale
    image = np.random.default_rng(0).random((1, side, side), dtype=np.float32)
    works: dict[str, Callable[[], object]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for method in (m for m in methods() if exists(m, scale)):
        network = build_network(recipe(method, scale, RATES[0], HR_PIXELS, 0).network).eval()
        works[method] = partial(_run, as_written(network), torch.from_numpy(image)[:, None])
        rows[method] = {"multiply_adds": multiply_adds(network, side)}
    model = load_model(scale=scale, degradation="bicubic", threads=threads)
    works[ENGINE] = partial(model.engine, image)
    count = speed.multiply_adds(model.card) * side**2  # without the one deconvolution
    rows[ENGINE] = {"multiply_adds": count, "engine": model.name, "model": model.card.name}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
    for name, values in seconds.items():
        rows[name] |= {"seconds": statistics.median(values), "fastest": min(values)}
    about: dict[str, Any] = {"scale": scale, "hr": size, "lr": side, "grid": GRID}
    about |= {"threads": threads, "rounds": rounds, "torch": str(torch.__version__)}
    return circumstances(command) | about | {"networks": rows}


def multiply_adds(network: torch.nn.Module, side: int) -> int:
    """Of convolutions and deconvolutions, for one LR slice of side x side, as it is written."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        as_written(network)(torch.zeros(1, 1, side, side))
    return int(counter.get_total_flops()) // 2


def _run(forward: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return forward(x)
