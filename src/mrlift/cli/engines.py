"""`mrlift engines`: what computes, and how fast it is here."""

from typing import Annotated

import typer

from mrlift.cli.console import Json, Threads, out, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(engines)


def engines(
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|PATH", help="Shipped weights, or an .onnx file."),
    ] = None,
    threads: Threads = 0,
    again: Annotated[bool, typer.Option("--again", help="Measure once more.")] = False,
    json: Json = False,
) -> None:
    """Show the engines, their speed here, and which is taken.

    Measured once for each file of weights, on one slice, and kept in the user's cache
    folder. An engine that differs from ONNX Runtime by more than 1e-4 of full scale is not used.
    """
    from dataclasses import asdict

    from mrlift.inference.choice import ENGINES, choose, installed
    from mrlift.inference.zoo import find_weights

    card, weights = find_weights(model)
    trials = {t.engine: t for t in choose(card, weights, threads, again=again)}
    versions, taken = installed(), next(iter(trials))
    if json:
        print_json(
            {
                "model": card.name,
                "engine": taken,
                "installed": versions,
                "trials": [asdict(t) for t in trials.values()],
            }
        )
        return
    console = out()
    side = max(trial.side for trial in trials.values())
    console.print(f"{card.name}, one slice of {side}x{side}:", highlight=False, markup=False)
    for name in ENGINES:
        trial = trials.get(name)
        text = "not installed" if name not in versions else f"{versions[name]}, only when asked for"
        if trial and trial.problem:
            text = f"{versions[name]}, not used: {trial.problem}"
        elif trial and trial.seconds:
            text = f"{versions[name]}, {trial.seconds:.3f} s, differs by {trial.difference:.1g}"
        elif trial:
            text = f"{versions[name]}, the only one: not measured"
        chosen = " (taken)" if name == taken else ""
        console.print(f"  {name}: {text}{chosen}", highlight=False, markup=False)
