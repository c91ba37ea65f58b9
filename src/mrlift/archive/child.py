"""Each series in a process beside the Dask worker, so that no input can take the worker along.

Dask blames the death of a worker on every task that it held. Here a process that crashes, hangs or
takes too much memory is known to have died of the one series it worked on; it is replaced and the
worker goes on. The process lives for many series: it loads libraries and weights once.

`python -m mrlift.archive.child MODULE:FUNCTION` reads pickled arguments from its standard input and
writes pickled results to its standard output.
"""

import logging
import os
import pickle
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

import psutil

from mrlift.archive.task import Limits

POLL = 0.2  # s between two looks at the memory


class ChildError(Exception):
    """The process ended before it answered; `kind` is "crash", "memory" or "timeout"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Child:
    """A process that calls `target`, MODULE:FUNCTION, for each thing that it is asked."""

    def __init__(self, target: str) -> None:
        command = [sys.executable, "-m", "mrlift.archive.child", target]
        # What libraries print may quote a file: it is shown to nobody, unless asked for.
        noise = None if os.environ.get("MRLIFT_DEBUG") else subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise
        )
        self._memory = psutil.Process(self._process.pid).memory_info
        self._ready = False

    def ask(self, argument: object, limits: Limits) -> Any:  # noqa: ANN401
        """The answer of `target` to a picklable argument.

        Raises:
            ChildError: none came within the limits; the process is gone.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            if not self._ready:  # loading libraries is no fault of the first series
                self._ready = pickle.load(self._process.stdout)
            deadline = time.monotonic() + limits.timeout
            pickle.dump(argument, self._process.stdin)
            self._process.stdin.flush()
            while not select.select([self._process.stdout], [], [], POLL)[0]:
                self._refuse_excess(deadline, limits)
            return pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError, psutil.Error) as error:
            self.close()
            raise ChildError("crash", _obituary(self._process.returncode)) from error

    def close(self) -> None:
        """End the process at once."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what was not sent has no reader
                pipe.close()
        self._process.wait()

    def _refuse_excess(self, deadline: float, limits: Limits) -> None:
        if time.monotonic() > deadline:
            self.close()
            raise ChildError(
                "timeout",
                f"It was not done within {limits.timeout:g} s. Give it more with --timeout.",
            )
        used = self._memory().rss
        if limits.memory and used > limits.memory:
            self.close()
            raise ChildError(
                "memory",
                f"It took {used / 1e9:.2f} GB, more than the {limits.memory / 1e9:.2f} GB that a "
                "worker has here. Run fewer workers, or larger ones.",
            )


def _obituary(code: int) -> str:
    # `close` has sent SIGKILL, too late where the process had ended by itself.
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"The process that worked on it was ended by {name}{hint}."


_children = threading.local()


def ask(target: str, argument: object, limits: Limits) -> Any:  # noqa: ANN401
    """The answer of the child that belongs to this thread, started when first needed.

    Raises:
        ChildError: the child died of it; the next call starts another.
    """
    known: dict[str, Child] = _children.__dict__
    child = known.get(target) or known.setdefault(target, Child(target))
    try:
        return child.ask(argument, limits)
    except ChildError:
        del known[target]
        raise


def serve(target: str) -> None:
    """Answer until standard input ends, which is when the worker does."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    warnings.simplefilter("ignore")
    logging.disable()
    module, _, name = target.partition(":")
    perform: Callable[[Any], Any] = getattr(import_module(module), name)
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(waiting,), daemon=True).start()
    pickle.dump(True, answers)
    answers.flush()
    while True:
        pickle.dump(perform(waiting.get()), answers)
        answers.flush()


def _read(waiting: "queue.SimpleQueue[Any]") -> None:
    """Take in arguments; without the worker nobody wants the result of what is going on."""
    while True:
        try:
            waiting.put(pickle.load(sys.stdin.buffer))
        except EOFError:
            os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
