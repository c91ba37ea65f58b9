"""The command line: `mrlift COMMAND`. The only place that prints.

Exit codes: 0 done; 1 other errors; 2 wrong usage or input; 3 output cannot be written; 4 weights
missing or unfit; 5 wrong recipe or configuration; 6 training diverged; 7 warnings with --strict; 8
the cluster is gone; 9 series of an archive failed; 70 a fault of mrlift; 130 and 143 interrupted.
"""

import gc
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

import typer

from mrlift.cli.console import errors as error_console
from mrlift.cli.console import fail
from mrlift.errors import MrliftError

COMMANDS = (  # or groups of them, each in the module of its name
    "upscale", "check", "view", "info", "models", "engines", "degrade", "evaluate", "data", "train",
    "bench", "node", "archive",
)  # fmt: skip


def application(command: str = "") -> typer.Typer:
    """`mrlift` with all commands, or with one alone, which spares the time of the others."""
    app = typer.Typer(
        name="mrlift",
        help="Sharper MR images: a series in, the same series at a higher in-plane resolution out.",
        epilog="Exit codes: 0 done, 2 usage or input, 3 output, 4 weights, 5 configuration, "
        "6 training diverged, 7 warnings with --strict, 8 cluster gone, 9 series of an archive "
        "failed, 70 internal, 130 and 143 interrupted. Not a medical device.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # rich takes longer to load than all else
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(lambda: None)  # or typer would take the only command for mrlift itself
    for name in (command,) if command in COMMANDS else COMMANDS:
        import_module(f"mrlift.cli.{name}").register(app)
    return app


class _Interrupted(SystemExit):
    """Ctrl-C or SIGTERM, so that what is half-written is removed on the way out.

    Not a KeyboardInterrupt, which typer would turn into an exit without a word. A SystemExit, since
    asyncio lets no other out of a callback: it would be logged, and what runs go on. Its code is
    that of the process, also where a second one comes while the first is being told.
    """


def _interrupt(number: int, frame: object) -> NoReturn:
    raise _Interrupted(128 + number)


def _look_as_usual(phase: str, facts: dict[str, int]) -> None:
    """After the first look for garbage; seldom: nothing here leaves so much that one would see."""
    if phase == "stop":
        gc.callbacks.remove(_look_as_usual)
        gc.set_threshold(20_000)


def main() -> None:
    """Entry point of `mrlift`."""
    run_safely(lambda: application(*sys.argv[1:2])())


def run_safely(command: Callable[[], object]) -> None:
    """Run a command and turn every error into a message and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # Packages that load are no garbage, so it is first looked for when they have.
    gc.set_threshold(100_000)
    gc.callbacks.append(_look_as_usual)
    try:
        command()
    except MrliftError as error:
        fail(str(error), error.exit_code)
    except _Interrupted as signalled:
        fail("Interrupted. Nothing half-written was left behind.", signalled.args[0])
    except BrokenPipeError:  # whoever read has had enough: typer does the same for `mrlift`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        fail("Out of memory. Process a part of the series, or use a larger machine.", 1)
    except Exception as error:
        if os.environ.get("MRLIFT_DEBUG"):
            raise
        error_console().print(
            f"[bold red]mrlift failed:[/] {type(error).__name__}", highlight=False
        )
        fail(
            "This is a fault of mrlift. Run again with MRLIFT_DEBUG=1 for the traceback and "
            "please report it (without patient data).",
            70,
        )
    finally:
        gc.freeze()  # or Python would look for garbage once more, in a tenth of a second, and end
