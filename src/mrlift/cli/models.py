"""`mrlift models`: the shipped weights."""

import typer

from mrlift.cli.console import Json, out, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(models)


def models(json: Json = False) -> None:
    """List the shipped weights with their cards."""
    from dataclasses import asdict

    from rich.table import Table

    from mrlift.inference.zoo import DEFAULTS, shipped_cards

    cards = shipped_cards()
    if json:
        print_json([asdict(card) for card in cards])
        return
    table = Table("name", "scale", "network", "trained on", "HR spacing mm", "gain dB", "licence")
    for card in cards:
        net = card.network
        default = " (default)" if DEFAULTS.get(card.scale) == card.name else ""
        table.add_row(
            card.name + default,
            f"x{card.scale}",
            f"{net['name']}, {net['channels']} channels, {net['units']} units",
            card.degradation,
            " to ".join(f"{v:.3g}" for v in card.spacing),
            "\n".join(f"{value:+.2f} {name}" for name, value in card.metrics.items()),
            card.licence,
        )
    out().print(table)
