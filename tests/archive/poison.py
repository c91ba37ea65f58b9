"""What a worker does in the tests of the archive: the usual, or harm where a name asks for it."""

import os
import time
from pathlib import Path

from mrlift.archive.series import perform as usual
from mrlift.archive.task import Outcome


def perform(order):
    name = order.task.path
    if order.task.job == "series":
        with (Path(order.settings.source).parent / "tries").open("a") as tries:
            tries.write(f"{name} {os.getppid()}\n")  # the parent is the worker
    if "crash" in name:
        os.abort()
    if "hang" in name:
        time.sleep(600)
    if "hungry" in name:
        held = bytearray(400_000_000)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(600)
    if "exit" in name:
        os._exit(3)
    return usual(order)


def trivial(order):
    """A series that takes no time and leaves no file: what remains is the machinery."""
    return [Outcome("done", input_digest="0" * 64, output_digest="0" * 64, slices=1)]
