"""A run: walks the source, keeps the workers busy, writes the ledger."""

import os
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker, Reschedule, as_completed, get_worker

from mrlift.archive import bids
from mrlift.archive.child import ChildError, ask
from mrlift.archive.cluster import cores, forget_notes
from mrlift.archive.discovery import Place, mark, places
from mrlift.archive.ledger import Ledger, Row
from mrlift.archive.series import output_mark, output_of, part_name
from mrlift.archive.task import (
    HIDDEN,
    POISON,
    TRANSIENT,
    Found,
    Limits,
    Order,
    Outcome,
    Settings,
    Task,
)  # fmt: skip
from mrlift.errors import ClusterError, OutputError
from mrlift.io.facts import Selection

PERFORM = "mrlift.archive.series:perform"
ATTEMPTS = 2  # of a series that ended a process or met trouble outside of itself
DEATHS = 5  # of workers from outside, as Dask counts them, before a series is set aside
# Tasks that the scheduler knows of, for each core and at least: so many that no worker waits and
# that outcomes can be fetched many at a time, and few to hold.
AHEAD, LEAST = 3, 32
SHARE = 4  # they are filled up when one in so many has ended, by as many at once
# Dask's scheduler remembers the names of 100,000 tasks after they have ended; so names are used
# again, each when this many others have been free for longer. Its notes are weeded as often.
RESTED = 1000
PASSES, PAUSE = 20, 0.5  # times, and s each, that a worker leaves to others what it failed at
EVERY = 1.0  # s between two notes of how far the run is


@dataclass(frozen=True)
class Answer:
    """What a worker says: outcomes, series that it found, or how its process died."""

    result: list[Outcome] | list[Found]
    worker: str


@dataclass(frozen=True)
class Progress:
    """How far a run is; `expected` is None until all files and folders are counted."""

    counts: Counter[str]
    visited: int
    expected: int | None
    cores: int
    seconds: float


@dataclass
class _Flight:
    """A task that is with the scheduler."""

    task: Task
    known: list[Row] = field(default_factory=list)  # what the ledger said of it before
    attempts: int = 1
    deaths: int = 0


_passed: Counter[tuple[str, str]] = Counter()  # in a worker: by path and series


def work(order: Order, limits: Limits, target: str, avoid: str = "") -> Answer:
    """What Dask runs: an order in the process beside this worker.

    The worker `avoid` leaves it to others. They were there when it was submitted; if none of them
    takes it for a while, it does it all the same.
    """
    worker = get_worker()
    series = (order.task.path, order.task.uid)
    if worker.address == avoid and _passed[series] < PASSES:
        _passed[series] += 1
        time.sleep(PAUSE)
        raise Reschedule
    allowed = limits.memory or int(worker.memory_manager.memory_limit or 0)
    try:
        result = ask(target, order, replace(limits, memory=allowed))
    except ChildError as error:
        result = [Outcome("failed", error=error.kind, reason=str(error))]
    return Answer(result, worker.address)


class Run:
    """One run over an archive.

    Args:
        client: of the cluster.
        ledger: open for writing.
        settings: as the ledger has settled them.
        selection: which series.
        limits: of a single one.
        labels: participants of a BIDS data set; None for a tree.
        report: called about once a second, and at the end.
        target: what is done with an order, MODULE:FUNCTION in the process beside a worker.
    """

    def __init__(
        self,
        client: Client,
        ledger: Ledger,
        settings: Settings,
        *,
        selection: Selection | None = None,
        limits: Limits | None = None,
        labels: list[str] | None = None,
        report: Callable[[Progress], None] | None = None,
        target: str = PERFORM,
    ) -> None:
        self._client, self._ledger, self._settings = client, ledger, settings
        self._selection, self._limits = selection or Selection(), limits or Limits()
        self._labels, self._report, self._target = labels, report, target
        self._work = Path(settings.dest) / HIDDEN / f"work-{ledger.file.stem}"
        self._ready: deque[_Flight] = deque()
        self._flying: dict[Future[Any], _Flight] = {}
        self._pool = as_completed(loop=client.loop)
        self._counts: Counter[str] = Counter()
        self._visited, self._submitted, self._named = 0, 0, 0
        self._free: dict[str, deque[str]] = {"look": deque(), "series": deque()}
        self._expected: int | None = None
        self._cores, self._began, self._noted, self._number = 0, time.monotonic(), 0.0, 0

    def go(self, only: list[str] | None = None) -> Counter[str]:
        """Do what is missing or has changed; `only` takes these paths instead of the whole source.

        Returns:
            How many series are new in each state, and how many were left as they are ("kept").

        Raises:
            ClusterError: the scheduler is gone; running again goes on.
            InputError, OutputError: the source or the destination cannot be used.
        """
        self._prepare()
        self._cores = cores(self._client)
        self._number = self._ledger.start_run()
        source = self._given(only) if only is not None else self._walk()
        try:
            while True:
                self._fill(source)
                if not self._flying:
                    break
                for future, answer in self._finished():
                    self._land(future, answer)
                self._note()
        except BaseException:
            for future in self._flying:
                with suppress(Exception):
                    future.cancel()
            raise
        finally:
            self._note(ended=not self._flying)
            shutil.rmtree(self._work, ignore_errors=True)
        return self._counts

    def _prepare(self) -> None:
        # What an earlier run left unfinished: the ledger's lock says that it is over.
        shutil.rmtree(self._work, ignore_errors=True)
        try:
            self._work.mkdir(parents=True)
        except OSError as error:
            raise OutputError(
                f"Cannot write into {self._work.parent}: {error.strerror}."
            ) from error
        if self._settings.bids:
            bids.prepare(self._settings)

    def _walk(self) -> Iterator[Place]:
        source = Path(self._settings.source)

        def count() -> None:
            with suppress(Exception):  # the walk itself will say it
                self._expected = sum(1 for _ in places(source, self._labels))

        threading.Thread(target=count, daemon=True).start()
        return places(source, self._labels)

    def _given(self, paths: list[str]) -> Iterator[Place]:
        self._expected = len(paths)
        for path in paths:
            file = Path(self._settings.source) / path
            yield Place(path, True) if file.is_dir() else Place(path, fingerprint=mark(file))

    def _fill(self, source: Iterator[Place]) -> None:
        """Keep the scheduler in work, and no more than that in its memory and this one's."""
        limit = max(AHEAD * self._cores, LEAST)
        batch = limit // SHARE
        if len(self._flying) > limit - batch:
            return
        while free := limit - len(self._flying):
            ended = self._pool.queue.qsize()  # and not landed yet
            if ended >= batch:
                return
            wanted = min(batch, free) if len(self._flying) - ended >= self._cores else 1
            if len(self._ready) < wanted and (place := next(source, None)):
                self._visited += 1
                self._visit(place)
                self._note()  # where nothing has changed, this is the whole run
            elif self._ready:
                count = min(free, len(self._ready))
                self._submit([self._ready.popleft() for _ in range(count)])
            else:
                return

    def _visit(self, place: Place) -> None:
        if place.error:
            task = Task("look", place.path)
            self._end(task, [Outcome("failed", error="InputError", reason=place.error)], 1, "")
        elif place.folder:
            self._ready.append(_Flight(Task("look", place.path)))
        else:
            self._consider(Task("series", place.path, fingerprint=place.fingerprint))

    def _consider(self, task: Task) -> None:
        """Put a series in line, unless it is done and has not changed."""
        settings = self._settings
        known = self._ledger.rows(task.path, task.uid)
        output = output_of(settings, task.path, task.uid)
        there = bool(known) and self._all_there(known)
        same = bool(known) and all(row.fingerprint == task.fingerprint != "" for row in known)
        states = {row.status for row in known}
        if same and states <= {"done", "failed", "quarantined"} and there:
            self._counts["kept"] += len(known)
            return
        ours = any(row.ours for row in known) or settings.bids
        names = (output, part_name(output, 1))
        if not ours and any(os.path.lexists(f"{settings.dest}/{name}") for name in names):
            reason = (
                f"{settings.dest}/{output} exists already and is not of this archive. Move it away."
            )
            self._end(task, [Outcome("failed", error="OutputError", reason=reason)], 1, "")
            return
        before = known[0].input_digest if there and states == {"done"} else ""
        task = replace(task, output=output, known=before, work=str(self._work))
        self._ready.append(_Flight(task, known))

    def _all_there(self, known: list[Row]) -> bool:
        """Whether all outputs are there as they were written."""
        outputs = ((row.output, row.output_mark) for row in known if row.output)
        return all(output_mark(self._settings, name) == mark != "" for name, mark in outputs)

    def _submit(self, flights: list[_Flight], avoid: str = "") -> None:
        """Give tasks to the scheduler, which takes many at once in little more time than one."""
        if self._client.status not in ("running", "connecting"):
            raise ClusterError(
                "The Dask scheduler is gone. What was done is noted: start a scheduler and run "
                "the same command again to go on."
            )
        for flight in flights:
            if flight.task.job == "series":
                self._ledger.begin(flight.task, flight.attempts)
        others = self._others(avoid) if avoid else []
        futures = self._client.map(
            work,
            [Order(flight.task, self._settings, self._selection) for flight in flights],
            key=[self._name(flight.task) for flight in flights],
            pure=False,
            workers=others or None,
            allow_other_workers=bool(others),
            limits=self._limits,
            target=self._target,
            avoid=avoid if others else "",
        )
        for future, flight in zip(futures, flights, strict=True):
            self._flying[future] = flight
            self._pool.add(future)
            self._submitted += 1
            if self._submitted % RESTED == 0:
                forget_notes(self._client)

    def _name(self, task: Task) -> str:
        """Dask's key of a task; what stands before the dash tells it which ones take how long."""
        free = self._free[task.job]
        if len(free) > RESTED:
            return free.popleft()
        self._named += 1
        return f"{task.job}-{self._named}"

    def _others(self, avoid: str) -> list[str]:
        """Workers but one; none where the scheduler cannot be asked just now."""
        with suppress(Exception):
            return [worker for worker in self._client.nthreads() if worker != avoid]
        return []

    def _finished(self) -> list[tuple[Future[Any], Answer | None]]:
        """Wait for tasks to end; all that have ended, with what the workers said.

        Answers are fetched together: a request for each would take most of a task's overhead.
        """
        batch: list[Future[Any]] = [next(self._pool), *self._pool.next_batch(block=False)]
        good = [future for future in batch if future.status == "finished"]
        try:
            answers = self._client.gather(good)
        except Exception:  # the scheduler or a worker died meanwhile: they are done again
            answers = [None] * len(good)
        told = dict(zip(good, answers, strict=True))
        return [(future, told.get(future)) for future in batch]

    def _land(self, future: Future[Any], answer: Answer | None) -> None:
        flight = self._flying.pop(future)
        if answer is None:
            answer = self._without_answer(future, flight)
        future.release()
        task = flight.task
        self._free[task.job].append(str(future.key))
        if answer is None:
            return
        if task.job == "look" and not _failed(answer.result):
            self._found(task, answer.result)
            return
        outcomes: Any = answer.result
        if outcomes[0].status == "unchanged":
            self._keep(flight)
            return
        if {o.error for o in outcomes} & set(TRANSIENT) and flight.attempts < ATTEMPTS:
            again = replace(flight, attempts=flight.attempts + 1)
            self._submit([again], avoid=answer.worker)
            return
        outcomes = [replace(o, status="quarantined") if o.error in POISON else o for o in outcomes]
        self._end(task, outcomes, flight.attempts, answer.worker)

    def _keep(self, flight: _Flight) -> None:
        """A series whose files are others than before, with the same content."""
        self._ledger.touched(flight.task, flight.known)
        self._counts["kept"] += len(flight.known)

    def _without_answer(self, future: Future[Any], flight: _Flight) -> Answer | None:
        """Why there is none; None where the task is on its way again."""
        error = future.exception() if future.status == "error" else None
        if error is None:  # the scheduler died, and the client looks for the next one
            self._submit([flight])
            return None
        if isinstance(error, KilledWorker):
            flight.deaths += 1
            if flight.deaths < DEATHS:
                self._submit([flight])
                return None
            reason = "The workers that held it died, over and over. See the logs of the workers."
            return Answer([Outcome("failed", error="worker died", reason=reason)], "")
        reason = f"A worker could not run it: {type(error).__name__}."
        return Answer([Outcome("failed", error="fault", reason=reason)], "")

    def _found(self, look: Task, series: list[Any]) -> None:
        self._ledger.forget(look.path, {found.uid for found in series})
        for found in series:
            task = Task("series", look.path, found.uid, found.names, found.fingerprint)
            if found.error:
                outcome = Outcome("failed", error="InputError", reason=found.error)
                self._end(task, [outcome], 1, "")
            elif found.skip:
                self._end(task, [Outcome("skipped", error=found.skip)], 1, "")
            else:
                self._consider(task)

    def _end(self, task: Task, outcomes: list[Outcome], attempts: int, worker: str) -> None:
        self._ledger.record(task, outcomes, attempts, worker)
        self._counts.update(o.status for o in outcomes)

    def _note(self, *, ended: bool = False) -> None:
        now = time.monotonic()
        if now - self._noted < EVERY and not ended:
            return
        self._noted = now
        with suppress(Exception):  # while the client looks for its scheduler
            self._cores = cores(self._client)
        finished = sum(self._counts[s] for s in ("done", "failed", "quarantined"))
        # What is in line has been come to, but is not behind.
        behind = max(0, self._visited - len(self._flying) - len(self._ready))
        self._ledger.tick(
            self._number, cores=self._cores, finished=finished, visited=behind,
            expected=self._expected, ended=ended,
        )  # fmt: skip
        if self._report:
            seconds = now - self._began
            self._report(Progress(self._counts, behind, self._expected, self._cores, seconds))


def _failed(result: list[Any]) -> bool:
    return any(isinstance(item, Outcome) for item in result)
