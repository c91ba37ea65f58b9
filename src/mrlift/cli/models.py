"""`mrlift models`: the shipped weights."""

import typer

from mrlift.cli.console import Json, out, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(models)


def models(json: Json = False) -> None:
    """List the shipped weights with their cards."""
    from dataclasses import asdict
    from itertools import islice

    from mrlift.inference.zoo import DEFAULTS, shipped_cards

    cards = shipped_cards()
    if json:
        print_json([asdict(card) for card in cards])
        return
    console = out()
    for card in cards:
        net = card.network
        usual = DEFAULTS[card.degradation].get(card.scale) == card.name
        default = f"  default of x{card.scale}, {card.degradation}" if usual else ""
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
