"""One job at a time, in a thread of its own, that ends soon after it is cancelled."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from mrlift.errors import MrliftError

Post = Callable[[str, dict[str, Any]], None]
Progress = Callable[[int, int], None]
Work = Callable[[Progress], dict[str, Any]]

log = logging.getLogger("mrlift")


class BusyError(MrliftError):
    """Another job is running."""


class CancelledError(Exception):
    """Raised in a job's own progress callback, so that it unwinds as after any error."""


class Job:
    """Work that reports through `post` and can be cancelled.

    Events: "progress" with done, total and seconds; at the end one of "done" with what the work
    returned, "failed" with an error for the user, or "cancelled".
    """

    def __init__(self, title: str, work: Work, post: Post) -> None:
        self.title = title
        self._work, self._post = work, post
        self._cancelled = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="mrlift-view-job")
        self.last: tuple[str, dict[str, Any]] = ("progress", self._facts(0, 0))

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def cancel(self) -> None:
        """Ask the job to end; it does so before its next slice."""
        self._cancelled.set()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._thread.is_alive()

    def _facts(self, done: int, total: int) -> dict[str, Any]:
        seconds = round(time.monotonic() - self._began, 1)
        return {"title": self.title, "done": done, "total": total, "seconds": seconds}

    def _tell(self, kind: str, facts: dict[str, Any]) -> None:
        self.last = (kind, facts)
        self._post(kind, facts)

    def _step(self, done: int, total: int) -> None:
        if self._cancelled.is_set():
            raise CancelledError
        self._tell("progress", self._facts(done, total))

    def _run(self) -> None:
        try:
            result = self._work(self._step)
        except CancelledError:
            ending: tuple[str, dict[str, Any]] = ("cancelled", {})
        except MrliftError as error:
            ending = ("failed", {"error": str(error)})
        except MemoryError:
            ending = ("failed", {"error": "Out of memory. Use a part of the series."})
        except Exception as error:
            # Only the type: the words of other libraries may quote headers.
            log.error("a job of the viewer ended with %s", type(error).__name__)
            ending = ("failed", {"error": f"A fault of mrlift: {type(error).__name__}."})
        else:
            ending = ("done", result)
        if self._cancelled.is_set():
            ending = ("cancelled", {})
        self._tell(*ending)


class Desk:
    """Where jobs are handed in; takes one at a time."""

    def __init__(self) -> None:
        self._job: Job | None = None

    def start(self, job: Job) -> None:
        """Begin a job.

        Raises:
            BusyError: another one is running.
        """
        if self._job is not None and self._job.running:
            raise BusyError("Another series is being worked on. Wait for it or cancel it.")
        self._job = job
        job.start()
