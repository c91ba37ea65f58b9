"""`mrlift bench table1`, `table2`, ...: the paper's tables and figure by one protocol."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrlift.cli.bench import bench, command_line
from mrlift.cli.console import Threads, errors, say
from mrlift.cli.train import need
from mrlift.errors import OutputError

if TYPE_CHECKING:
    from mrlift.benchmark.contest import Contest

Store = Annotated[
    Path, typer.Option("--data", metavar="STORE", help="Made by `mrlift data prepare`.")
]
Test = Annotated[
    Path, typer.Option("--test", metavar="FOLDER", help="HR series to report on, never trained on.")
]
Sheet = Annotated[
    Path | None,
    typer.Option("--sources", help="A sources.toml that names the patients of the test series."),
]
Results = Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")]
Minutes = Annotated[
    float | None, typer.Option("--budget", metavar="MINUTES", help="Save and stop after this time.")
]
Pixels = Annotated[
    float, typer.Option("--hr-pixels", help="That each network sees in training.", min=1.0)
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Independent runs of each network.")]
Scale = Annotated[
    list[int] | None,
    typer.Option("--scale", min=2, max=4, help="In-plane factor; repeatable; default: 2, 3 and 4."),
]
PIXELS = 50e6


@bench.command()
def table2(
    data: Store,
    test: Test,
    output: Results,
    sources: Sheet = None,
    scale: Scale = None,
    budget: Minutes = None,
    hr_pixels: Pixels = PIXELS,
    seeds: Seeds = 1,
    threads: Threads = 0,
) -> None:
    """Train every network by one protocol and report on the test series: the paper's Table 2.

    Stopped by the budget or by SIGTERM it says so and ends well; the same command goes on. Networks
    are trained at x2 first, from where x3 and x4 start. Needs `pip install mrlift[train]`.
    """
    contest = _contest(data, test, output, sources, budget, hr_pixels, seeds, threads)
    _finish(_table2(contest, tuple(scale or (2, 3, 4))), output)


@bench.command()
def table1(
    data: Store,
    test: Test,
    output: Results,
    sources: Sheet = None,
    budget: Minutes = None,
    hr_pixels: Pixels = PIXELS,
    seeds: Seeds = 1,
    threads: Threads = 0,
) -> None:
    """The same for the single, double and multi-resolution upsampling of Table 1, at x2."""
    contest = _contest(data, test, output, sources, budget, hr_pixels, seeds, threads)
    _finish(_table1(contest), output)


def _table2(contest: "Contest", scales: tuple[int, ...]) -> bool:
    from mrlift.benchmark.protocol import exists, methods

    return all(
        contest.bicubic(scale)
        and all(
            contest.run(method, scale, seed)
            for seed in range(contest.budget.seeds)
            for method in methods()
            if exists(method, scale)
        )
        for scale in scales
    )


def _table1(contest: "Contest") -> bool:
    from mrlift.benchmark.protocol import ABLATIONS

    return contest.bicubic(2) and all(
        contest.run(method, 2, seed)
        for seed in range(contest.budget.seeds)
        for method in ("mrl", *ABLATIONS)
    )


def _contest(
    data: Path,
    test: Path,
    output: Path,
    sources: Path | None,
    minutes: float | None,
    hr_pixels: float,
    seeds: int,
    threads: int,
) -> "Contest":
    """Everything is opened and checked before hours of work begin."""
    need("torch", "h5py", "tensorboard")
    import torch

    from mrlift.benchmark.contest import Contest
    from mrlift.benchmark.evaluation import find_tests
    from mrlift.benchmark.protocol import Budget
    from mrlift.training.store import SliceStore

    if threads:
        torch.set_num_threads(threads)
    budget = Budget(hr_pixels, seeds)
    tests = find_tests(test, sources)
    store = SliceStore(data)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create {output}: {error.strerror}.") from error
    return Contest(
        output, store, tests, budget, command_line(), _stopper(minutes), _progress(errors().print)
    )


def _stopper(minutes: float | None) -> Callable[[], bool]:
    """True once the time is over or SIGTERM came."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    began = time.monotonic()
    return lambda: bool(asked) or (minutes is not None and time.monotonic() - began > 60 * minutes)


def _progress(show: Callable[..., None]) -> Callable[[str], None]:
    return lambda text: show(text, markup=False, highlight=False)


def _finish(done: bool, output: Path) -> None:
    if done:
        say(f"All results are in {output}.")
    else:
        say("Stopped. The same command goes on from here.")
