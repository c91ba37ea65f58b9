"""`mrlift models`: the shipped weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrlift.cli.console import Json, Overwrite, out, print_json, say
from mrlift.errors import OutputError

if TYPE_CHECKING:
    from mrlift.inference.card import Card


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(models)


def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One of them.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.onnx",
            help="Write the weights NAME as plain ONNX, with their card (.json) beside them.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """List the shipped weights, or write those of NAME as .onnx.

    The package keeps weights packed; other programs read the file that `mrlift models NAME -o
    FILE.onnx` writes.
    """
    from dataclasses import asdict

    from mrlift.inference.zoo import find_weights, save_weights, shipped_cards

    if output is not None and name is None:
        raise typer.BadParameter("Name the weights to write: mrlift models NAME -o FILE.onnx.")
    if output is not None and output.suffix != ".onnx":
        raise OutputError(f"Expected a name that ends in .onnx, found {output}.")
    cards = shipped_cards()
    if name is not None:
        card, weights = find_weights(name)
        cards = [card]
        if output is not None:
            save_weights(card, weights, output, overwrite=overwrite)
    if json:
        print_json([asdict(card) for card in cards])
    elif output is not None:
        say(f"{output}: {cards[0].name}, sha256 {cards[0].sha256[:12]}")
    else:
        for card in cards:
            _print(card)


def _print(card: "Card") -> None:
    from itertools import islice

    from mrlift.inference.zoo import DEFAULTS

    net = card.network
    usual = DEFAULTS[card.degradation].get(card.scale) == card.name
    default = f"  default of x{card.scale}, {card.degradation}" if usual else ""
    console = out()
    console.print(f"[bold]{card.name}[/]{default}", highlight=False)
    low, high = card.spacing
    for line in (
        f"{net['name']}: {net['channels']} channels, {net['units']} units, "
        f"{net['parameters']:,} parameters",
        f"x{card.scale}, {card.grid} grid, trained on {card.degradation} degradation of "
        f"{low:.2g} to {high:.2g} mm",
        *(f"{value:+.2f} {name}" for name, value in islice(card.metrics.items(), 1)),
        f"{card.licence}; trained on {'; '.join(card.data)}",
    ):
        console.print(f"  {line}", highlight=False, markup=False)
