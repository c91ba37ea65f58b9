"""`mrlift node`: the DICOM node."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from mrlift.cli.console import say
from mrlift.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(node)


def node(
    config: Annotated[
        Path, typer.Option("--config", metavar="FILE", help="A TOML file, see docs/how-to/node.md.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Read the configuration, say whether it is sound, end.")
    ] = False,
) -> None:
    """Receive series over DICOM, upscale them, send them on.

    Runs until SIGTERM or Ctrl-C; what was accepted and not finished is finished after the next
    start. The log goes to standard error. Needs the extra "node".
    """
    need_pynetdicom()
    from mrlift.node.config import load_node_config

    settings = load_node_config(config)
    if check:
        say(f"{config} is sound.")
        return
    import threading

    quieten()
    from mrlift.node.service import Node

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    running = Node(settings)
    running.start()
    stop.wait()
    running.close()


def quieten() -> None:
    """Log on stderr, and nothing there that may quote a file.

    pydicom and pynetdicom put values into their warnings and log entries, threads print
    tracebacks.
    """
    import logging
    import threading
    import time
    import warnings

    form = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(form)
    log = logging.getLogger("mrlift")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    for name in ("pydicom", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
    threading.excepthook = lambda failed: log.error(
        "a thread ended with %s", failed.exc_type.__name__
    )


def need_pynetdicom() -> None:
    """End with a clear message where the extra is not installed."""
    from importlib.util import find_spec

    if find_spec("fcntl") is None:
        raise ConfigError("The node runs on Linux and macOS, not on this system.")
    missing = [name for name in ("pynetdicom", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"This command needs {', '.join(missing)}. Install it with: pip install 'mrlift[node]'"
        )
