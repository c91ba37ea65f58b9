"""Which engine runs a network: the fastest here of those that give the same result."""

import hashlib
import json
import logging
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mrlift.errors import ModelError
from mrlift.inference import amx, winograd
from mrlift.inference.card import Card
from mrlift.inference.engines import Engine, Slices, cores, processor

# Where each is made. By name, so that inference imports neither ncnn nor torch by itself.
ENGINES = {
    "onnx": ("mrlift.inference.engines", "onnx_engine", "onnxruntime"),
    "amx": ("mrlift.inference.amx", "amx_engine", "mrlift"),
    "winograd": ("mrlift.inference.winograd", "winograd_engine", "mrlift"),
    "ncnn": ("mrlift.inference.ncnn", "ncnn_engine", "ncnn"),
    "torch": ("mrlift.networks.engine", "torch_engine", "torch"),
}
COMPILED = {"amx": amx.library, "winograd": winograd.library}
# LR samples a side of a patch where an engine needs no other limit than that of memory.
CORES = {"amx": 1024, "winograd": 1024, "ncnn": 1024}
CANDIDATES = ("onnx", "amx", "winograd", "ncnn")  # torch takes seconds to load: only when asked for
REFERENCE = "onnx"
PARITY = 1e-4  # largest difference from the reference, of full scale
# LR samples a side of the slice of the measurement: a second, once. Networks that take less are
# measured on the larger one, where they do their work.
SIDES, ROUNDS = (96, 256), 3
QUICK = 0.2  # seconds for all engines together

log = logging.getLogger("mrlift")


@dataclass(frozen=True)
class Trial:
    """What was measured of an engine on this machine.

    Attributes:
        engine: its name.
        seconds: shortest time of one slice: what disturbs only adds.
        difference: largest difference from ONNX Runtime on it, of full scale.
        problem: why it is not used; empty if it may be.
        side: LR samples a side of that slice.
    """

    engine: str
    seconds: float
    difference: float
    problem: str = ""
    side: int = SIDES[0]


def installed() -> dict[str, str]:
    """The engines that can be used here, with the versions of their packages."""
    return {
        name: _version(package)
        for name, (_, _, package) in ENGINES.items()
        if find_spec(package) and (name not in COMPILED or COMPILED[name]() is not None)
    }


@lru_cache
def _version(package: str) -> str:
    return metadata.version(package)


@lru_cache(maxsize=8)
def open_engine(name: str, weights: bytes, threads: int) -> Engine:
    """An engine by name, made once in a process for the same weights and count of threads.

    Args:
        name: one of `ENGINES`.
        weights: content of an .onnx file.
        threads: threads within one call; 0 takes all cores.

    Raises:
        ModelError: no such engine, not installed, or it cannot run this network.
    """
    if name not in ENGINES:
        raise ModelError(f"No engine is called {name!r}; there are: {', '.join(ENGINES)}.")
    module, factory, package = ENGINES[name]
    if not find_spec(package):
        extra = {"ncnn": "fast", "torch": "train"}[name]
        raise ModelError(f"The engine {name} is not installed: `pip install mrlift[{extra}]`.")
    engine: Engine = getattr(import_module(module), factory)(weights, threads)
    return engine


def choose(card: Card, weights: bytes, threads: int = 0, *, again: bool = False) -> list[Trial]:
    """The engines that were tried for a network, the one to use first.

    The measurement is kept in the user's cache folder until the weights, the processor, a version
    or the count of threads changes; `again` repeats it.
    """
    names = [name for name in CANDIDATES if name in installed()]
    if names == [REFERENCE] and not again:
        return [Trial(REFERENCE, 0.0, 0.0)]
    threads = threads or cores()
    key = _key(card, threads)
    known = {} if again else _read_cache()
    try:
        trials = [Trial(**values) for values in known[key]]
        if trials[0].engine in names and not trials[0].problem:
            return trials
    except (KeyError, TypeError, IndexError):
        pass  # not measured yet, or damaged
    trials = measure(weights, threads, names)
    _write_cache(_read_cache() | {key: [asdict(trial) for trial in trials]})
    return trials


def measure(weights: bytes, threads: int, names: list[str]) -> list[Trial]:
    """Run each engine on the same slice in turn; sound ones first, each by its shortest time."""
    small, large = SIDES
    trials = _measured(weights, threads, names, small)
    if sum(trial.seconds for trial in trials) < QUICK:
        trials = _measured(weights, threads, names, large)
    for trial in trials:
        if trial.problem:
            log.warning("The engine %s is not used: %s", trial.engine, trial.problem)
    return sorted(trials, key=lambda t: (bool(t.problem), t.seconds))


def _measured(weights: bytes, threads: int, names: list[str], side: int) -> list[Trial]:
    slices = np.random.default_rng(0).random((1, side, side), dtype=np.float32)
    slices[:, side // 2 :] *= 0.2
    problems: dict[str, str] = {}
    engines: dict[str, Engine] = {}
    for name in names:
        try:
            engines[name] = open_engine(name, weights, threads)
        except Exception as error:  # of whatever kind: another engine does the work
            problems[name] = str(error) or type(error).__name__
    results: dict[str, Slices] = {}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(ROUNDS + 1):
        for name, engine in list(engines.items()):
            began = time.perf_counter()
            try:
                results[name] = engine(slices)
            except Exception as error:
                problems[name] = str(error) or type(error).__name__
                del engines[name]
                continue
            if turn:  # the first run warms up
                seconds[name].append(time.perf_counter() - began)
    trials = [Trial(name, 0.0, 0.0, problem) for name, problem in problems.items()]
    for name in engines:
        trials.append(_trial(name, min(seconds[name]), results, side))
    return trials


def _trial(name: str, seconds: float, results: dict[str, Slices], side: int) -> Trial:
    difference, problem = float("inf"), "its result has another size"
    if results[name].shape == results[REFERENCE].shape:
        difference = float(np.abs(results[name] - results[REFERENCE]).max())
        problem = ""
        if not difference <= PARITY:  # NaN too
            problem = f"it differs by {difference:.2g} from {REFERENCE}; allowed {PARITY:g}"
    return Trial(name, seconds, difference, problem, side)


def _key(card: Card, threads: int) -> str:
    versions = sorted(installed().items())
    facts = json.dumps([card.sha256, versions, processor(), threads, SIDES])
    return f"{card.name} {hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def cache_file() -> Path:
    """Where measured choices are kept."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "mrlift" / "engines.json"


def _read_cache() -> dict[str, Any]:
    try:
        known = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # RuntimeError: no home folder
        return {}
    return known if isinstance(known, dict) else {}


def _write_cache(known: dict[str, Any]) -> None:
    """Keep the choices if that is possible; without, the next process measures again."""
    try:
        file = cache_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, encoding="utf-8", delete=False
        ) as part:
            json.dump(known, part, indent=1)
        Path(part.name).replace(file)
    except (OSError, RuntimeError):
        log.debug("the choice of an engine could not be kept", exc_info=True)
