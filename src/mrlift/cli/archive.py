"""`mrlift archive`: many series on many workers."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrlift.cli.console import (
    Degradation,
    Engine,
    Json,
    Syntax,
    TransferSyntax,
    errors,
    print_json,
    say,
    show_table,
)
from mrlift.errors import ConfigError, IncompleteError

if TYPE_CHECKING:
    from mrlift.archive.ledger import Ledger, Pace
    from mrlift.archive.run import Progress
    from mrlift.archive.task import Limits, Settings
    from mrlift.io.facts import Selection

Dest = Annotated[Path, typer.Argument(help="The destination of the run.")]
LedgerFile = Annotated[
    Path | None,
    typer.Option("--ledger", metavar="FILE", help="The ledger; default: in DEST/.mrlift."),
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler, tcp://HOST:8786."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes on this machine; default: one a core."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds that one series may take.")
]
Memory = Annotated[
    float,
    typer.Option("--memory", min=0, help="GB that one series may take; 0: the worker's share."),
]
HOUR = 3600.0


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(
        help='Upscale a whole archive on many workers, with a ledger. Needs the extra "archive".',
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for command in (run, status, retry, export):
        group.command()(command)
    app.add_typer(group, name="archive")


def run(
    source: Annotated[
        Path, typer.Argument(help="A tree of NIfTI and DICOM files, or a BIDS data set.")
    ],
    dest: Annotated[Path, typer.Argument(help="Where results go; mirrors SOURCE.")],
    scheduler: Scheduler = None,
    workers: Workers = None,
    scale: Annotated[
        int | None, typer.Option("--scale", help="In-plane factor; default: the model's, or 2.")
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select",
            metavar="RULE",
            help="contrast=T1,T2 or description=*mprage*,*tse* or spacing=0.5..1.2 (mm); may be "
            "given again, all must hold.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|PATH", help="Shipped weights, or an .onnx file."),
    ] = None,
    degradation: Annotated[
        Degradation | None,
        typer.Option("--degradation", help="What made the images coarse: kspace or bicubic."),
    ] = None,
    engine: Engine = None,
    nifti: Annotated[bool, typer.Option("--nifti", help="Write NIfTI for DICOM too.")] = False,
    transfer_syntax: TransferSyntax = Syntax.explicit,
    timeout: Timeout = HOUR,
    memory: Memory = 0.0,
    ledger: LedgerFile = None,
) -> None:
    """Upscale every series under SOURCE into DEST, or what is missing.

    Running again does what is missing or has changed. A series that fails is noted and does not
    stop the others; the exit code is then 9. A BIDS data set becomes a BIDS derivative.
    """
    need_dask()
    from mrlift.archive.session import settings_for

    rule = selection_of(select or [])
    settings = settings_for(
        source, dest, model=model, scale=scale, degradation=degradation, engine=engine, nifti=nifti,
        transfer_syntax=transfer_syntax.value,
    )  # fmt: skip
    go(settings, ledger, rule, (scheduler, workers), limits_of(timeout, memory))


def status(dest: Dest, ledger: LedgerFile = None, json: Json = False) -> None:
    """Show how far a run is, how fast, and what failed why."""
    need_dask()
    from mrlift.archive.ledger import Ledger

    opened = Ledger(_file(dest, ledger))
    pace = opened.pace()
    facts = {
        "counts": opened.counts(),
        "errors": [
            {"status": s, "error": e, "series": n, "example": r} for s, e, n, r in opened.errors()
        ],
        "running": bool(pace and not pace.ended),
        "series_per_hour": round(pace.per_hour, 1) if pace else None,
        "seconds_left": round(pace.left) if pace and pace.left is not None else None,
    }
    if json:
        print_json(facts)
        return
    _print_status(opened, pace)


def retry(
    dest: Dest,
    error: Annotated[
        str, typer.Option("--error", metavar="KIND", help="Only this kind, as in `status`.")
    ] = "",
    scheduler: Scheduler = None,
    workers: Workers = None,
    timeout: Timeout = HOUR,
    memory: Memory = 0.0,
    ledger: LedgerFile = None,
) -> None:
    """Try the series again that failed, were quarantined or left undone."""
    need_dask()
    from mrlift.archive.ledger import Ledger

    file = _file(dest, ledger)
    opened = Ledger(file)
    settings = opened.settings()
    opened.close()
    if settings is None:
        raise ConfigError(f"{file} holds no run that could be retried.")
    go(settings, file, None, (scheduler, workers), limits_of(timeout, memory), retry=(error,))


def export(
    dest: Dest,
    csv: Annotated[
        Path, typer.Option("--csv", metavar="FILE", help="What to write; - is standard output.")
    ],
    ledger: LedgerFile = None,
) -> None:
    """Write the ledger as CSV, one line a series."""
    need_dask()
    from mrlift.archive.ledger import Ledger
    from mrlift.io import replacing

    opened = Ledger(_file(dest, ledger))
    if str(csv) == "-":
        opened.export(sys.stdout)
        return
    with replacing(csv, overwrite=True) as part, part.open("w", newline="", encoding="utf-8") as f:
        count = opened.export(f)
    say(f"{csv}: {count} series")


def go(
    settings: "Settings",
    ledger: Path | None,
    selection: "Selection | None",
    where: tuple[str | None, int | None],
    limits: "Limits",
    *,
    retry: tuple[str] | None = None,
) -> None:
    """Run on a cluster, show how it goes, write the summary.

    Raises:
        IncompleteError: series failed, in this run or an earlier one.
    """
    from mrlift.archive.cluster import connect
    from mrlift.archive.session import Session
    from mrlift.inference.engines import cores

    scheduler, workers = where
    if scheduler and workers:
        raise ConfigError("Give --scheduler or --workers: a scheduler has workers of its own.")
    with (
        Session(settings, ledger, selection, limits) as session,
        connect(scheduler, workers or cores()) as client,
    ):
        errors().print(f"Dask dashboard: {client.dashboard_link}", highlight=False, markup=False)
        with progress() as report:
            session.run(client, report, retry=retry[0] if retry else None)
        session.summarise()
        _print_status(session.ledger, session.ledger.pace())
        say(f"Summary: {session.summary}")
        bad = session.bad()
    if bad:
        raise IncompleteError(
            f"{bad} series failed, the others are done. `mrlift archive status {settings.dest}` "
            "says why; `mrlift archive retry` with the same folder tries them again."
        )


@contextmanager
def progress() -> "Iterator[Callable[[Progress], None]]":
    """A bar on stderr: share of the source behind, series by outcome, pace, time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[told]}"), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False), console=errors(),
    )  # fmt: skip
    with bar:
        row = bar.add_task("archive", total=None, told="")

        def report(now: "Progress") -> None:
            ended = sum(now.counts[s] for s in ("done", "failed", "quarantined"))
            told = ", ".join(f"{n:,} {status}" for status, n in sorted(now.counts.items()))
            told += f"\n{3600 * ended / now.seconds:,.0f} an hour, " if ended else "\n"
            told += f"{now.cores} cores"  # on a second line: a terminal has 80 columns
            bar.update(row, completed=now.visited, total=now.expected, told=told)

        yield report


def _print_status(ledger: "Ledger", pace: "Pace | None") -> None:
    from rich.table import Column, Table

    from mrlift.archive.summary import ORDER, duration

    counts = ledger.counts()
    table = Table("status", Column("series", justify="right"))
    for name in ORDER:
        if name in counts:
            table.add_row(name, f"{counts[name]:,}")
    show_table(table)
    if kinds := ledger.errors():
        reasons = Table("status", "kind", Column("series", justify="right"), "for instance")
        for name, kind, count, example in kinds:
            reasons.add_row(name, kind, f"{count:,}", example.splitlines()[0] if example else "")
        show_table(reasons, markup=False)
    if pace:
        left = "" if pace.left is None else f", about {duration(pace.left)} to go"
        word = "Last run" if pace.ended else "Run going on or broken off"
        say(
            f"{word}: {pace.finished:,} series in {duration(pace.seconds)} on {pace.cores} cores, "
            f"{pace.per_hour:,.0f} an hour{left}"
        )


def limits_of(timeout: float, memory: float) -> "Limits":
    """Limits from what the user gave, seconds and GB."""
    from mrlift.archive.task import Limits

    return Limits(timeout, round(memory * 1e9))


def selection_of(rules: list[str]) -> "Selection":
    """A selection from KEY=VALUE.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind.
    """
    from mrlift.config import from_table
    from mrlift.io.facts import Selection

    table: dict[str, object] = {}
    for rule in rules:
        key, equals, value = rule.partition("=")
        if not equals or key in table:
            raise ConfigError(f"--select {rule!r}: expected KEY=VALUE, each key once.")
        table[key] = value.split(",")
        if key == "spacing":
            low, dots, high = value.partition("..")
            try:
                table[key] = [float(low or 0), float(high or "inf")] if dots else [float(low)] * 2
            except ValueError as error:
                raise ConfigError(
                    f"--select {rule!r}: expected spacing=LOW..HIGH in mm, such as 0.5..1.2."
                ) from error
    return from_table(Selection, table, "select")


def _file(dest: Path, ledger: Path | None) -> Path:
    from mrlift.archive.ledger import ledger_file

    return ledger or ledger_file(dest)


def need_dask() -> None:
    """End with a clear message where the extra is not installed."""
    from importlib.util import find_spec

    if find_spec("fcntl") is None:
        raise ConfigError("The archive runs on Linux and macOS, not on this system.")
    missing = [name for name in ("distributed", "bokeh", "jinja2", "psutil") if not find_spec(name)]
    if missing:
        raise ConfigError(
            f"This command needs {', '.join(missing)}. Install it with: "
            "pip install 'mrlift[archive]'"
        )
