"""The rate of the training loop beside that of PyTorch's bare convolutions."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mrlift.errors import ConfigError
from mrlift.networks.mrl import MRL
from mrlift.training.config import Recipe
from mrlift.training.loop import Run
from mrlift.training.losses import is_fused
from mrlift.training.store import SliceStore

BACKWARD = 2  # a backward pass has twice the multiply-adds of the forward pass


@dataclass(frozen=True)
class Throughput:
    """Medians of alternating measurements. Rates in GFLOP/s, two operations per multiply-add."""

    step_seconds: float  # a whole training step, with its share of drawing patches
    bare_seconds: float  # forward and backward pass of the same convolutions alone
    step_rate: float
    bare_rate: float

    @property
    def ratio(self) -> float:
        """Rate of the step over the bare rate."""
        return self.step_rate / self.bare_rate


def measure(recipe: Recipe, store: SliceStore, folder: Path, rounds: int = 7) -> Throughput:
    """Alternate steps of a run of `recipe` with passes through a bare stack of convolutions.

    The stack has the convolutions of the recipe's units as PyTorch computes them, on batches of the
    same size, memory format and precision: no ReLU, no sums, no loss, no optimiser, no data. Rates
    count the multiply-adds of direct 3x3 convolutions and, of the step, of the deconvolutions that
    its loss takes; the step needs fewer where `winograd` computes its convolutions.

    Args:
        recipe: what to train.
        store: where patches come from.
        folder: for the run; nothing is left in it but an empty folder.
        rounds: measurements of each, after one that does not count.

    Raises:
        ConfigError: the recipe is for another network than mrl.
    """
    run = Run(recipe, store, folder)
    network = run.network
    if not isinstance(network, MRL):
        raise ConfigError("The bare stack of convolutions is that of the network mrl alone.")
    channels, units = network.head.out_channels, network.depth
    batch, side = recipe.training.batch, recipe.data.lr_patch
    bare = nn.Sequential(*(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2 * units)))
    bare.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given = torch.rand(batch, channels, side, side).to(memory_format=torch.channels_last)
    given.requires_grad_()

    def bare_pass() -> None:
        bare.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=run.mixed):
            made = bare(given)
        made.sum().backward()

    steps, bares = [], []
    for _ in range(rounds + 1):
        bares.append(_seconds(bare_pass))
        steps.append(_seconds(run.advance))
    step, alone = float(np.median(steps[1:])), float(np.median(bares[1:]))
    pixels = batch * side**2 * 2 * (1 + BACKWARD) / 1e9
    inner = 2 * units * 9 * channels**2
    taps = math.prod(network.deconv.kernel_size)
    fused = network.upsampling != "multi" or is_fused(recipe.training.loss, mixed=run.mixed)
    of_x = network.deconv.in_channels - channels
    whole = inner + 9 * channels + ((1 if fused else units) * channels + of_x) * taps
    return Throughput(step, alone, pixels * whole / step, pixels * inner / alone)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
