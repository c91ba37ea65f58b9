"""The training loop: draw, step, average, validate, save."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrlift.errors import ConfigError, DivergenceError
from mrlift.metrics import psnr
from mrlift.networks import NETWORKS
from mrlift.networks.mrl import MRL
from mrlift.resampling import bicubic_down, bicubic_up, filled_size
from mrlift.training import losses
from mrlift.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mrlift.training.config import NetworkConfig, Recipe, TrainingConfig
from mrlift.training.growth import grow
from mrlift.training.patches import PatchSampler
from mrlift.training.slices import Slice, facts

VALIDATION_SLICES = 12
Report = Callable[[dict[str, float]], None]


def build_network(config: NetworkConfig) -> MRL:
    """The network of a recipe, on the CPU, with fresh weights."""
    network = NETWORKS[config.name](
        config.scale,
        units=config.units,
        channels=config.channels,
        grid=config.grid,
        shared_units=config.shared_units,
        upsampling=config.upsampling,
    )
    assert isinstance(network, MRL)
    return network


def learning_rate(config: TrainingConfig, progress: float) -> float:
    """A linear rise over the warm-up share of the budget, then a cosine to zero."""
    if progress < config.warmup:
        return config.learning_rate * progress / config.warmup
    rest = (progress - config.warmup) / (1 - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


class Run:
    """One training run in a folder: its state, and `train` to move it on.

    Args:
        recipe: what to train.
        training: HR slices to learn from.
        validation: HR slices of held-out patients.
        folder: where the checkpoint goes; made if absent.
        resume: go on from the folder's checkpoint.
        start: checkpoint of an equal or smaller MRL network to start from.
    """

    def __init__(
        self,
        recipe: Recipe,
        training: list[Slice],
        validation: list[Slice],
        folder: Path,
        *,
        resume: bool = False,
        start: Path | None = None,
    ) -> None:
        torch.manual_seed(recipe.training.seed)
        self.recipe, self.folder = recipe, folder
        self.facts: dict[str, Any] = facts(training) | {"start": []}
        self.sampler = PatchSampler(training, recipe)
        picked = np.linspace(0, len(validation) - 1, min(VALIDATION_SLICES, len(validation)))
        self.validation = [validation[int(i)].image for i in picked]
        network = build_network(recipe.network)
        if start is not None and not resume:
            self.facts["start"] = _start_from(network, load_checkpoint(start))
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = _optimiser(self.network, recipe.training)
        self.step, self.history = 0, list[dict[str, float]]()
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self._restore(load_checkpoint(folder))
        pixels = recipe.training.batch * recipe.data.lr_patch**2
        self.pixels_per_step = pixels
        self.steps = math.ceil(recipe.training.lr_pixels / pixels)

    def train(
        self,
        *,
        minutes: float | None = None,
        every: float = 300.0,
        report: Report | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train until the recipe's budget is spent, `minutes` are over, or `stop()` is true.

        Validates and saves every `every` seconds and at the end.

        Returns:
            Whether the recipe's budget is spent.

        Raises:
            DivergenceError: loss or gradient are not finite.
        """
        began = saved = time.monotonic()
        first = self.step
        losses_seen: list[float] = []
        while self.step < self.steps:
            losses_seen.append(self._advance())
            now = time.monotonic()
            over = stop() or (minutes is not None and now - began > 60 * minutes)
            if over or now - saved > every or self.step == self.steps:
                seconds = now - began
                self.history.append(
                    {
                        "step": self.step,
                        "lr_pixels": self.step * self.pixels_per_step,
                        "loss": float(np.mean(losses_seen)),
                        "learning_rate": self.optimiser.param_groups[0]["lr"],
                        "pixels_per_second": (self.step - first) * self.pixels_per_step / seconds,
                        "gain": self.validate(),
                    }
                )
                self.save()
                if report:
                    report(self.history[-1])
                losses_seen, saved = [], time.monotonic()
            if over:
                break
        return self.step >= self.steps

    def validate(self) -> float:
        """Mean PSNR gain of the averaged weights over bicubic on the validation slices, dB."""
        scale, grid = self.recipe.network.scale, self.recipe.network.grid
        gains = []
        for hr in self.validation:
            height, width = (filled_size(n, scale, grid) for n in hr.shape)
            hr = hr[:height, :width]
            lr = bicubic_down(hr, scale, grid)
            with torch.inference_mode():
                sr = self.average(torch.from_numpy(lr)[None, None])[0, 0].numpy()
            ours = psnr(hr, sr, data_range=float(hr.max()))
            gains.append(ours - psnr(hr, bicubic_up(lr, scale, grid), data_range=float(hr.max())))
        return float(np.mean(gains))

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(
            Checkpoint(
                self.recipe,
                self.step,
                self.network.state_dict(),
                self.average.state_dict(),
                self.optimiser.state_dict(),
                self.history,
                self.facts,
            ),
            self.folder,
        )

    def _advance(self) -> float:
        config = self.recipe.training
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, (self.step + 1) / self.steps)
        lr, hr = (torch.from_numpy(a) for a in self.sampler.draw(self.step))
        self.optimiser.zero_grad()
        y_hat, each = self.network.outputs(lr)
        loss = losses.total(config.loss, y_hat, each, hr)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        value = loss.item() if math.isfinite(norm.item()) else math.nan
        if not math.isfinite(value):
            raise DivergenceError(
                f"Loss or gradient stopped being finite at step {self.step}. The checkpoint in "
                f"{self.folder} is from before; lower training.learning_rate and resume from it."
            )
        self.optimiser.step()
        self.step += 1
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, current in _pairs(self.average, self.network):
                mean.lerp_(current, 1 - decay)
        return value

    def _restore(self, checkpoint: Checkpoint) -> None:
        for section in ("network", "data", "training"):
            ours, theirs = (asdict(getattr(r, section)) for r in (self.recipe, checkpoint.recipe))
            for key, value in ours.items():
                if value != theirs[key]:
                    raise ConfigError(
                        f"The run in {self.folder} was begun with {section}.{key} = "
                        f"{theirs[key]!r}, the recipe says {value!r}. Resume with the recipe that "
                        "it was begun with."
                    )
        self.facts = checkpoint.facts
        self.step, self.history = checkpoint.step, checkpoint.history
        self.network.load_state_dict(checkpoint.network)
        self.average.load_state_dict(checkpoint.average)
        self.optimiser.load_state_dict(checkpoint.optimiser)


def _start_from(network: MRL, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Grow `network` from a run; returns what the card will say of where it came from."""
    small = build_network(checkpoint.recipe.network)
    small.load_state_dict(checkpoint.average)
    grow(network, small)
    earlier: list[dict[str, Any]] = checkpoint.facts["start"]
    pixels = checkpoint.history[-1]["lr_pixels"] if checkpoint.history else 0
    return [*earlier, {"name": checkpoint.recipe.card.name, "lr_pixels": pixels}]


def _pairs(one: torch.nn.Module, other: torch.nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(one.parameters(), other.parameters(), strict=True)


def _optimiser(network: torch.nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimiser == "sgd":
        return torch.optim.SGD(
            network.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    return torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
