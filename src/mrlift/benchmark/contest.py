"""Every network trained and tested by the protocol; stopped at any time, it goes on where it was.

A folder of results holds

    quality/METHOD-xN-sSEED.json    figures of every test slice, learning curve, recipe, machine
    rates/METHOD-sSEED.json         validation gain of each learning rate that was tried
    runs/METHOD-xN-sSEED/           checkpoints; not to be published

The learning rate is chosen at x2 and kept at x3 and x4, unless it diverges there. These start from
the x2 network: layers of equal shape are taken over, see `mrlift.training.growth`.
"""

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mrlift.benchmark.evaluation import Tests, evaluate, wrap
from mrlift.benchmark.protocol import CURVE, RATES, TRIAL_CURVE, TRIAL_SHARE, Budget, recipe
from mrlift.benchmark.quality import circumstances
from mrlift.errors import ConfigError, DivergenceError
from mrlift.inference.engines import bicubic_engine
from mrlift.inference.zoo import Model
from mrlift.io import replacing
from mrlift.networks.engine import module_engine
from mrlift.training.checkpoint import NAME as CHECKPOINT
from mrlift.training.checkpoint import load_checkpoint
from mrlift.training.config import Recipe
from mrlift.training.loop import Run, build_network
from mrlift.training.store import SliceStore, facts

FIRST = 2  # the scale at which rates are chosen and from which the others start
Report = Callable[[str], None]


@dataclass
class Contest:
    """What all runs of a folder share.

    Attributes:
        folder: of the results.
        store: slices to train and to validate on.
        tests: series to report on, used once by each trained network.
        budget: of each run.
        command: for the record.
        stop: whether to save and come back.
        report: is told what happens.
    """

    folder: Path
    store: SliceStore
    tests: Tests
    budget: Budget
    command: str
    stop: Callable[[], bool] = lambda: False
    report: Report = field(default=lambda _: None)

    def bicubic(self, scale: int) -> bool:
        """Test plain interpolation; returns whether the result is there."""
        file = self.folder / "quality" / f"bicubic-x{scale}.json"
        if file.exists():
            return True
        return self._test(file, wrap(bicubic_engine(scale), scale, "bicubic"), {"seed": None})

    def run(self, method: str, scale: int, seed: int) -> bool:
        """Train and test a network, or what is left to do; returns whether the result is there.

        Raises:
            ConfigError: the folder holds runs by another recipe, or every rate diverged.
        """
        name = f"{method}-x{scale}-s{seed}"
        file = self.folder / "quality" / f"{name}.json"
        if scale != FIRST and not file.exists() and not self.run(method, FIRST, seed):
            return False
        rates = self._rates(method, seed)
        if rates is None:
            return False
        settings = recipe(method, scale, _best(rates, scale, name), self.budget.hr_pixels, seed)
        if file.exists():
            _check(file, settings)
            return True
        try:
            run = self._train(settings, name, CURVE, self._start(method, scale, seed))
        except DivergenceError:
            self._drop(method, scale, seed, rates, settings.training.learning_rate)
            shutil.rmtree(self.folder / "runs" / name)
            return self.run(method, scale, seed)
        if run is None:
            return False
        record = {
            "seed": seed,
            "network": asdict(settings.network),
            "parameters": sum(p.numel() for p in run.network.parameters()),
            "recipe": asdict(settings),
            "products": "bfloat16" if run.mixed else "float32",
            "rates": rates,
            "start": run.facts["start"],
            "train": facts(self.store, "train"),
            "validation": facts(self.store, "validation"),
            "curve": [
                {
                    "hr_pixels": row["lr_pixels"] * scale**2,
                    "gain": round(row["gain"], 4),
                    "loss": row["loss"],
                    "lr_pixels_per_second": round(row["pixels_per_second"]),
                }
                for row in run.history
            ],
        }
        model = trained(self.folder / "runs" / name, method)
        return self._test(file, model, record)

    def _rates(self, method: str, seed: int) -> list[dict[str, Any]] | None:
        """Short runs with each rate; None if there was no time for all of them."""
        file = self.folder / "rates" / f"{method}-s{seed}.json"
        hr_pixels = self.budget.hr_pixels * TRIAL_SHARE
        if file.exists():
            record = json.loads(file.read_text(encoding="utf-8"))
            _check(file, recipe(method, FIRST, RATES[0], hr_pixels, seed))
            rates: list[dict[str, Any]] = record["rates"]
            return rates
        rates = []
        for rate in RATES:
            settings = recipe(method, FIRST, rate, hr_pixels, seed)
            name = f"{method}-x{FIRST}-s{seed}-rate-{rate:g}"
            try:
                run = self._train(settings, name, TRIAL_CURVE)
            except DivergenceError:
                rates.append({"rate": rate, "gain": None})
                continue
            if run is None:
                return None
            gain = run.history[-1]["gain"]
            rates.append({"rate": rate, "gain": round(gain, 4) if math.isfinite(gain) else None})
        first = asdict(recipe(method, FIRST, RATES[0], hr_pixels, seed))
        write(file, circumstances(self.command) | {"recipe": first, "rates": rates})
        for rate in RATES:
            shutil.rmtree(self.folder / "runs" / f"{method}-x{FIRST}-s{seed}-rate-{rate:g}")
        return rates

    def _drop(
        self, method: str, scale: int, seed: int, rates: list[dict[str, Any]], rate: float
    ) -> None:
        """Rule out, at one scale, a rate that went well in its trial and not over the budget."""
        self.report(f"{method}: the rate {rate:g} diverged at x{scale} and is ruled out there")
        file = self.folder / "rates" / f"{method}-s{seed}.json"
        left = [
            r | {"diverged": [*r.get("diverged", []), scale]} if r["rate"] == rate else r
            for r in rates
        ]
        write(file, json.loads(file.read_text(encoding="utf-8")) | {"rates": left})

    def _start(self, method: str, scale: int, seed: int) -> Path | None:
        """The network's own run at x2, for other scales."""
        if scale == FIRST:
            return None
        start = self.folder / "runs" / f"{method}-x{FIRST}-s{seed}"
        if not (start / CHECKPOINT).exists():
            raise ConfigError(
                f"x{scale} starts from the checkpoint in {start}, which is gone. Remove "
                f"quality/{start.name}.json to have it trained again."
            )
        return start

    def _train(
        self, settings: Recipe, name: str, validations: int, start: Path | None = None
    ) -> Run | None:
        """A finished run, or None if it was stopped."""
        folder = self.folder / "runs" / name
        resume = (folder / CHECKPOINT).exists()
        run = Run(settings, self.store, folder, resume=resume, start=start)
        interval = math.ceil(run.steps / validations)
        shown = time.monotonic()

        def pause() -> bool:
            return self.stop() or run.step % interval == 0

        while run.step < run.steps:
            if self.stop():
                return None
            run.train(every=math.inf, stop=pause)
            row = run.history[-1]
            minutes = (time.monotonic() - shown) / 60
            self.report(
                f"{name}: {row['step'] / run.steps:.0%}, {row['gain']:+.3f} dB over bicubic on "
                f"validation patients, {minutes:.1f} min"
            )
        return run

    def _test(self, file: Path, model: Model, record: dict[str, Any]) -> bool:
        """Figures of the test series; returns whether they are there."""
        series = evaluate(self.tests, model, lambda s: self.report(f"{file.stem}: {s}"), self.stop)
        if series is None:
            return False
        about = {"method": model.card.name, "scale": model.card.scale}
        write(file, circumstances(self.command) | about | record | {"test": series})
        return True


def trained(run: Path, method: str) -> Model:
    """The averaged weights of a run, as the product takes weights.

    Raises:
        ModelError: there is no such run.
    """
    checkpoint = load_checkpoint(run)
    network = build_network(checkpoint.recipe.network)
    network.load_state_dict(checkpoint.average)
    return wrap(module_engine(network), checkpoint.recipe.network.scale, method)


def _best(rates: list[dict[str, Any]], scale: int, name: str) -> float:
    """The rate with the highest gain in its trial, of those that did not diverge at the scale."""
    sound = {
        r["rate"]: r["gain"]
        for r in rates
        if r["gain"] is not None and scale not in r.get("diverged", [])
    }
    if not sound:
        raise ConfigError(f"{name}: training diverged with every rate of the protocol.")
    return float(max(sound, key=lambda rate: sound[rate]))


def write(file: Path, record: dict[str, Any]) -> None:
    """Write a result whole or not at all, one entry a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in record.items())
    with replacing(file, overwrite=True) as part:
        part.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def _check(file: Path, settings: Recipe) -> None:
    """Refuse results of another protocol, which would stand in one table with others."""
    found = json.loads(file.read_text(encoding="utf-8"))["recipe"]
    wanted = json.loads(json.dumps(asdict(settings)))
    for section in ("network", "data", "training"):
        for key, value in wanted[section].items():
            if found[section].get(key) != value:
                raise ConfigError(
                    f"{file} was made with {section}.{key} = {found[section].get(key)!r}; now it "
                    f"is {value!r}. Take another folder, or the settings that it was begun with."
                )
