"""`mrlift data`: series to train on."""

import typer

from mrlift.cli import download

data = typer.Typer(help="Get series to train on.", no_args_is_help=True)
download.register(data)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(data, name="data")


@data.callback()
def _group() -> None:
    """Keep `download` a subcommand while it is the only one."""
