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
from mrlift.errors import ConfigError, OutputError

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
Networks = Annotated[
    list[str] | None,
    typer.Option("--network", metavar="NAME", help="Only this row; repeatable; default: all."),
]
PIXELS = 50e6
SCALES = (2, 3, 4)


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
    """The paper's Table 1: one, two and many upsampled images."""
    contest = _contest(data, test, output, sources, budget, hr_pixels, seeds, threads)
    _finish(_table1(contest), output)


@bench.command()
def table2(
    data: Store,
    test: Test,
    output: Results,
    sources: Sheet = None,
    scale: Scale = None,
    network: Networks = None,
    budget: Minutes = None,
    hr_pixels: Pixels = PIXELS,
    seeds: Seeds = 1,
    threads: Threads = 0,
) -> None:
    """The paper's Table 2: train every network, report on the test.

    Stopped by the budget or by SIGTERM it says so and ends well; the same command goes on. Networks
    are trained at x2 first, from where x3 and x4 start. Needs `pip install mrlift[train]`.
    """
    contest = _contest(data, test, output, sources, budget, hr_pixels, seeds, threads)
    _finish(_table2(contest, tuple(scale or SCALES), _chosen(network)), output)


@bench.command()
def table3(
    output: Results,
    scale: Scale = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timed runs of each.")] = 7,
    threads: Threads = 0,
) -> None:
    """The paper's Table 3: time every network on this processor.

    All run in eager PyTorch, as in the paper, in turn with mrlift's own engine. Nothing else should
    run meanwhile. Needs `pip install mrlift[train]`.
    """
    need("torch", "h5py", "tensorboard")
    _folder(output)
    _table3(output, tuple(scale or SCALES), rounds, threads)
    _finish(True, output)


@bench.command()
def figure3(
    data: Store,
    test: Test,
    output: Results,
    sources: Sheet = None,
    hr_pixels: Pixels = PIXELS,
    threads: Threads = 0,
) -> None:
    """The paper's Figure 3: two test slices by every network."""
    contest = _contest(data, test, output, sources, None, hr_pixels, 1, threads)
    _figure3(contest)
    _finish(True, output)


@bench.command("all")
def everything(
    data: Store,
    test: Test,
    output: Results,
    sources: Sheet = None,
    budget: Minutes = None,
    hr_pixels: Pixels = PIXELS,
    seeds: Seeds = 1,
    threads: Threads = 0,
) -> None:
    """All of these, Table 2 at x2 first, and `render`."""
    from mrlift.benchmark.protocol import methods

    contest = _contest(data, test, output, sources, budget, hr_pixels, seeds, threads)
    done = (
        _table2(contest, (2,), methods())
        and _figure3(contest)
        and _table1(contest)
        and _table3(output, SCALES, 7, threads)
        and _table2(contest, SCALES[1:], methods())
    )
    if done:
        _render(output, output, [])
    _finish(done, output)


@bench.command()
def render(
    folder: Annotated[Path, typer.Argument(help="Folder of results.")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder for pictures; default: FOLDER.")
    ] = None,
    into: Annotated[
        list[Path] | None,
        typer.Option("--into", metavar="PAGE", help="Markdown whose blocks are filled again."),
    ] = None,
) -> None:
    """Draw tables, figures and report.html from results, again.

    Nothing is trained or measured. Needs `pip install mrlift[bench]`.
    """
    _render(folder, images or folder, into or [])


def _table1(contest: "Contest") -> bool:
    from mrlift.benchmark.protocol import ABLATIONS

    return contest.bicubic(2) and all(
        contest.run(method, 2, seed)
        for seed in range(contest.budget.seeds)
        for method in ("mrl", *ABLATIONS)
    )


def _table2(contest: "Contest", scales: tuple[int, ...], chosen: list[str]) -> bool:
    from mrlift.benchmark.protocol import exists

    return all(
        contest.bicubic(scale)
        and all(
            contest.run(method, scale, seed)
            for seed in range(contest.budget.seeds)
            for method in chosen
            if exists(method, scale)
        )
        for scale in scales
    )


def _table3(output: Path, scales: tuple[int, ...], rounds: int, threads: int) -> bool:
    from mrlift.benchmark.contest import write
    from mrlift.benchmark.timing import SIZES, measure
    from mrlift.inference.engines import cores

    for scale in scales:
        for size in SIZES:
            record = measure(scale, size, threads or cores(), rounds, command_line())
            write(output / "time" / f"x{scale}-{size}.json", record)
            times = (f"{n} {r['seconds']:.3f}" for n, r in record["networks"].items())
            _progress()(f"x{scale}, HR {size}, seconds: {', '.join(times)}")
    return True


def _figure3(contest: "Contest") -> bool:
    from mrlift.benchmark.contest import write
    from mrlift.benchmark.visual import compare

    write(contest.folder / "figure3.json", compare(contest, 2))
    return True


def _render(folder: Path, images: Path, pages: list[Path]) -> None:
    from mrlift.benchmark.render import fill, render

    if images != folder:
        _folder(images)
    for file in [*render(folder, images), *fill(folder, images, pages)]:
        say(str(file))


def _chosen(names: list[str] | None) -> list[str]:
    """The networks that were asked for, or all."""
    import difflib

    from mrlift.benchmark.protocol import methods

    known = methods()
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise ConfigError(f"There is no network {name!r}. {hint}")
    return names or known


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
    _folder(output)
    return Contest(output, store, tests, budget, command_line(), _stopper(minutes), _progress())


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create {path}: {error.strerror}.") from error


def _stopper(minutes: float | None) -> Callable[[], bool]:
    """True once the time is over or SIGTERM came."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    began = time.monotonic()
    return lambda: bool(asked) or (minutes is not None and time.monotonic() - began > 60 * minutes)


def _progress() -> Callable[[str], None]:
    console = errors()
    return lambda text: console.print(text, markup=False, highlight=False)


def _finish(done: bool, output: Path) -> None:
    if done:
        say(f"All results are in {output}.")
    else:
        say("Stopped. The same command goes on from here.")
