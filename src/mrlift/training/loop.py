"""The training loop: draw, step, average, validate, save.

One process, or many under `torchrun`: each draws its share of the same batches, and gradients are
averaged, so that their number does not change what is learned.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from mrlift.errors import ConfigError, DivergenceError
from mrlift.inference.zoo import find_weights
from mrlift.metrics import psnr
from mrlift.networks import NETWORKS
from mrlift.networks.engine import stored_network
from mrlift.resampling import bicubic_up
from mrlift.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mrlift.training.config import NetworkConfig, Recipe, TrainingConfig
from mrlift.training.curves import Curves
from mrlift.training.growth import begin_from
from mrlift.training.losses import Objective
from mrlift.training.muon import Muon
from mrlift.training.patches import Image, PatchSampler, whole_pair
from mrlift.training.store import SliceStore, facts
from mrlift.training.winograd import quicken

VALIDATION_SLICES = 12
LOST = 10.0  # dB of validation gain; at good rates it goes up and down by tenths
TRIAL = 5  # seconds between two calls of `progress`
Row = dict[str, float]


def build_network(config: NetworkConfig) -> torch.nn.Module:
    """The network of a recipe, on the CPU, with fresh weights.

    Raises:
        ConfigError: its architecture does not have this scale or grid.
    """
    options = asdict(config)
    name, scale = options.pop("name"), options.pop("scale")
    if "grid" not in signature(NETWORKS[name]).parameters and options.pop("grid") != "edges":
        raise ConfigError(f"network.grid: {name} gives the edges grid only.")
    try:
        return NETWORKS[name](scale, **options)
    except ValueError as error:
        raise ConfigError(f"network: {name} cannot be built: {error}.") from error


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has units for bfloat16 products: newer GPUs, and processors with AMX.

    Where there are, a training step takes a fraction of its time in single precision; other
    processors are slower in bfloat16 (`benchmarks/bfloat16.py`).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_amx_tile_supported()


def learning_rate(config: TrainingConfig, progress: float) -> float:
    """The rate when a share `progress` of the budget, in (0, 1], is spent after this step."""
    if config.schedule == "steps":
        passed = math.ceil(progress / config.step - 1e-9) - 1
        return config.learning_rate * 0.1**passed
    if progress < config.warmup:
        return config.learning_rate * progress / config.warmup
    rest = (progress - config.warmup) / (1 - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


class Run:
    """One training run in a folder: its state, and `train` to move it on.

    Args:
        recipe: what to train.
        store: slices to learn from and, of other patients, to validate on.
        folder: where the checkpoint and the curves go; made if absent.
        resume: go on from the folder's checkpoint.
        start: a run, an .onnx file with its card, or the name of shipped weights; see `growth`.
        device: "cpu" or "cuda".
    """

    def __init__(
        self,
        recipe: Recipe,
        store: SliceStore,
        folder: Path,
        *,
        resume: bool = False,
        start: Path | None = None,
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(recipe.training.seed)
        self.recipe, self.folder, self.device = recipe, folder, torch.device(device)
        self.rank, self.world = _place()
        if recipe.training.batch % self.world:
            raise ConfigError(
                f"A batch of {recipe.training.batch} cannot be shared among {self.world} processes."
            )
        self.facts: dict[str, Any] = facts(store, "train") | {"start": []}
        self.sampler = PatchSampler(store, recipe)
        self.validation = validation_pairs(store, recipe)
        network = build_network(recipe.network)
        if start is not None and not resume:
            self.facts["start"] = _start_from(network, start)
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.device.type == "cpu":
            quicken(network)
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(False)
        objective = Objective(network, recipe.training.loss)
        self.objective: torch.nn.Module = (
            torch.nn.parallel.DistributedDataParallel(objective) if self.world > 1 else objective
        )
        self.optimiser = _optimiser(network, recipe.training)
        self.step, self.history = 0, list[Row]()
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self._restore(load_checkpoint(folder))
        self.mixed = recipe.training.precision == "mixed" and multiplies_bfloat16(self.device)
        self.pixels_per_step = recipe.training.batch * recipe.data.lr_patch**2
        self.steps = _steps(recipe, len(self.sampler), self.pixels_per_step)

    def train(
        self,
        *,
        minutes: float | None = None,
        every: float = 300.0,
        report: Callable[[Row], None] | None = None,
        progress: Callable[[Row], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train until the recipe's budget is spent, `minutes` are over, or `stop()` is true.

        Args:
            minutes: time to stop after; None has no limit.
            every: seconds between two validations, each with a checkpoint.
            report: is given the row of each validation.
            progress: is given the row of the last step now and then, without `gain`.
            stop: asked after each step.

        Returns:
            Whether the recipe's budget is spent.

        Raises:
            DivergenceError: loss, gradient or weights are not finite, or the validation gain is
                `LOST` below the best one of this run.
        """
        began = saved = shown = time.monotonic()
        first = self.step
        seen: list[tuple[float, float]] = []
        with closing(Curves(self.folder, self.history, write=self.rank == 0)) as curves:
            while self.step < self.steps:
                seen.append(self.advance())
                now = time.monotonic()
                timed_out = minutes is not None and now - began > 60 * minutes
                over, due = self._agree(stop() or timed_out, now - saved > every)
                row = self._row(seen, (self.step - first) * self.pixels_per_step / (now - began))
                if over or due or self.step == self.steps:
                    row["gain"] = self.validate()
                    best = max((r["gain"] for r in self.history), default=-math.inf)
                    if row["gain"] < best - LOST:
                        raise self._divergence(f"The validation gain fell to {row['gain']:+.1f} dB")
                    self.history.append(row)
                    if self.rank == 0:
                        self.save()
                        curves.add(row)
                    if report:
                        report(row)
                    seen, saved = [], time.monotonic()
                elif progress and now - shown > TRIAL:
                    progress(row)
                    shown = now
                if over:
                    break
        return self.step >= self.steps

    def validate(self) -> float:
        """Mean PSNR gain of the averaged weights over bicubic on the validation slices, dB."""
        scale, grid = self.recipe.network.scale, self.recipe.network.grid
        gains: dict[str, list[float]] = {}
        for kind, lr, hr in self.validation:
            with torch.inference_mode():
                given = torch.from_numpy(lr)[None, None].to(self.device)
                sr = self.average(given)[0, 0].cpu().numpy()
            ours = psnr(hr, sr, data_range=float(hr.max()))
            plain = psnr(hr, bicubic_up(lr, scale, grid), data_range=float(hr.max()))
            gains.setdefault(kind, []).append(ours - plain)
        self.facts["validation"] = {k: round(float(np.mean(g)), 3) for k, g in gains.items()}
        return float(np.mean(np.concatenate(list(gains.values()))))

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

    def advance(self) -> tuple[float, float]:
        """One step, without saving; returns loss and gradient norm.

        Raises:
            DivergenceError: one of them, or a weight after the step, is not finite.
        """
        config = self.recipe.training
        rate = learning_rate(config, (self.step + 1) / self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = [
            None if part is None else torch.from_numpy(part).to(self.device)
            for part in self.sampler.draw(self.step, self.rank, self.world)
        ]
        self.optimiser.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            loss = self.objective(*batch)
        loss.backward()
        limit = (config.clip / rate if config.clip_by_rate else config.clip) or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit).item()
        value = loss.item()
        if not (math.isfinite(norm) and math.isfinite(value) and self._move()):
            raise self._divergence("Loss, gradient or weights stopped being finite")
        self.step += 1
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, current in _pairs(self.average, self.network):
                mean.lerp_(current, 1 - decay)
        return value, norm

    def _divergence(self, what: str) -> DivergenceError:
        """The error that says what happened and how to go on."""
        advice = "Nothing was saved before; begin again with a lower training.learning_rate."
        if self.history:
            advice = (
                f"The checkpoint in {self.folder} is from before. Lower training.learning_rate and "
                f"begin a new run from it: --start {self.folder} -o ANOTHER."
            )
        return DivergenceError(f"{what} at step {self.step}. {advice}")

    def _move(self) -> bool:
        """Have the optimiser move the weights; whether they are finite then."""
        try:
            self.optimiser.step()
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # of `Muon`
            return False
        norms = torch._foreach_norm(list(self.network.parameters()))
        return bool(torch.stack(norms).isfinite().all())

    def _row(self, seen: list[tuple[float, float]], speed: float) -> Row:
        """Where the run is: means of loss and gradient norm since the last row, speed, rest."""
        loss, norm = np.mean(seen, axis=0)
        return {
            "step": self.step,
            "lr_pixels": self.step * self.pixels_per_step,
            "loss": float(loss),
            "gradient_norm": float(norm),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "pixels_per_second": speed,
            "seconds_left": (self.steps - self.step) * self.pixels_per_step / speed,
        }

    def _agree(self, *flags: bool) -> tuple[bool, ...]:
        """What any process wants, all do: they must stop and validate at the same step."""
        if self.world == 1:
            return flags
        wanted = torch.tensor(flags, dtype=torch.int, device=self.device)
        distributed.all_reduce(wanted, distributed.ReduceOp.MAX)
        return tuple(bool(w) for w in wanted)

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
        if checkpoint.facts["slices"] != self.facts["slices"]:
            raise ConfigError(
                f"The run in {self.folder} was begun with {checkpoint.facts['slices']} slices, the "
                f"store has {self.facts['slices']}. Resume with the store that it was begun with."
            )
        self.facts = checkpoint.facts
        self.step, self.history = checkpoint.step, checkpoint.history
        self.network.load_state_dict(checkpoint.network)
        self.average.load_state_dict(checkpoint.average)
        self.optimiser.load_state_dict(checkpoint.optimiser)


def validation_pairs(store: SliceStore, recipe: Recipe) -> list[tuple[str, Image, Image]]:
    """LR and HR of slices spread evenly over the held-out patients; noise in mid-range.

    Each comes with the source and contrast under which the card reports it.
    """
    every = [(s, i) for s in store.of("validation") for i in range(store.shapes[s][0])]
    if not every:
        raise ConfigError("The store has no validation patients; prepare it with some held out.")
    picked = np.linspace(0, len(every) - 1, min(VALIDATION_SLICES, len(every)))
    sigma = sum(recipe.data.noise) / 2
    pairs = []
    for number in picked:
        series, index = every[int(number)]
        record = store.records[series]
        lr, hr = whole_pair(store, recipe, series, index, sigma, int(number))
        pairs.append((f"{record.source}, {record.contrast}", lr, hr))
    return pairs


def _steps(recipe: Recipe, places: int, pixels_per_step: int) -> int:
    if recipe.training.epochs:
        return math.ceil(recipe.training.epochs * places / recipe.training.batch)
    return math.ceil(recipe.training.lr_pixels / pixels_per_step)


def _place() -> tuple[int, int]:
    """Rank and number of processes."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _start_from(network: torch.nn.Module, start: Path) -> list[dict[str, Any]]:
    """Grow `network` from a run or from weights; returns what the card will say of these."""
    if start.is_dir() or start.suffix == ".pt":
        checkpoint = load_checkpoint(start)
        small = build_network(checkpoint.recipe.network)
        small.load_state_dict(checkpoint.average)
        name, earlier = checkpoint.recipe.card.name, checkpoint.facts["start"]
        pixels = checkpoint.history[-1]["lr_pixels"] if checkpoint.history else 0
    else:
        card, weights = find_weights(str(start))
        small = stored_network(weights, card.network)
        name, earlier = card.name, card.training["start"]
        pixels = card.training["lr_pixels_seen"] - sum(s["lr_pixels"] for s in earlier)
    begin_from(network, small)
    return [*earlier, {"name": name, "lr_pixels": pixels}]


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
    if config.optimiser == "muon":
        return Muon(
            network,
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    return torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
