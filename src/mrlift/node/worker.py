"""Makes the derived series: one at a time, after its quiet time, with the product's own path."""

import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pydicom

from mrlift.errors import InputError, MrliftError, OutputError, SeriesChoiceError
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import Model, load_model
from mrlift.io import load, read_headers, save
from mrlift.io.durable import sync_tree
from mrlift.io.facts import facts_of, is_ours
from mrlift.node.config import NodeConfig, RuleConfig
from mrlift.node.metrics import Metrics
from mrlift.node.queue import Claim, Queue
from mrlift.node.rules import matching

log = logging.getLogger("mrlift.node")

ATTEMPTS = 5  # a series that the process did not survive this often is set aside
PRUNE_EVERY = 600.0  # s


class _StoppedError(Exception):
    """The node is to end; raised between two slices."""


class Worker(threading.Thread):
    """One thread that waits for series to be complete and processes them.

    Args:
        config: rules, quiet time, destinations.
        queue: gives series and takes results.
        metrics: counts.
        stop: ends the thread, within one slice.
        made: called when there is something to send.

    Raises:
        ModelError: the weights that a rule names cannot be loaded.
    """

    def __init__(
        self,
        config: NodeConfig,
        queue: Queue,
        metrics: Metrics,
        stop: threading.Event,
        made: Callable[[], None],
    ) -> None:
        super().__init__(name="worker", daemon=True)
        self._config, self._queue, self._metrics = config, queue, metrics
        self._ending, self._made = stop, made
        self._models = _models(config)
        self._news = threading.Condition()
        # Not on disk: after a restart the peers too need time to come back, so every series that
        # was being received gets its whole quiet time again.
        self._due = dict.fromkeys(queue.receiving(), self._later())
        self._pruned = 0.0

    def arrived(self, series: int) -> None:
        """An instance of a series has come in: it is complete a quiet time from now."""
        with self._news:
            self._due[series] = self._later()
            self._news.notify()

    def wake(self) -> None:
        """Look at `stop` now."""
        with self._news:
            self._news.notify()

    def run(self) -> None:
        """Process series until `stop` is set."""
        while not self._ending.is_set():
            try:
                series = self._next()
                if series is not None:
                    self._process(series)
                elif time.monotonic() - self._pruned > PRUNE_EVERY:
                    self._prune()
            except _StoppedError:
                return
            except Exception as error:  # of the queue's disk; the thread must outlive it
                log.error("the queue cannot be used: %s", type(error).__name__)
                self._ending.wait(self._config.queue.quiet)

    def _later(self) -> float:
        return time.monotonic() + self._config.queue.quiet

    def _next(self) -> int | None:
        """The next complete series, or None after a while without any."""
        with self._news:
            wait = min(self._due.values(), default=time.monotonic() + 60.0) - time.monotonic()
            if wait > 0 and not self._ending.is_set():
                self._news.wait(min(wait, 60.0))
            now = time.monotonic()
            attempts = self._queue.receiving()
            # One that ended the process before must not keep the others waiting.
            ready = sorted(
                (attempts.get(series, 0), due, series)
                for series, due in self._due.items()
                if due <= now
            )
            if not ready or self._ending.is_set():
                return None
            series = ready[0][2]
            del self._due[series]
            return series

    def _process(self, series: int) -> None:
        """Bring a series to its end, or leave it for another try."""
        result = self._queue.new_result()
        try:
            claim = self._queue.begin(series)
            if claim is None:
                return
            _note(claim).unlink(missing_ok=True)
            if claim.attempts > ATTEMPTS:
                self._refuse(
                    claim, f"The process ended {ATTEMPTS} times while it worked on this series."
                )
            else:
                self._attempt(claim, result)
        except (OSError, OutputError, sqlite3.Error) as error:
            # Whether a row was written before SQLite failed is not known: its files stay.
            if not isinstance(error, sqlite3.Error):
                shutil.rmtree(result, ignore_errors=True)
            log.error("series %d: cannot write, another try later: %s", series, _words(error))
            with self._news:
                self._due.setdefault(series, self._later())

    def _attempt(self, claim: Claim, result: Path) -> None:
        """Process a series; what is wrong with it costs this series only."""
        work = self._queue.work / str(claim.series)
        try:
            self._derive(claim, work, result)
        except FileNotFoundError:
            self._refuse(claim, "An instance is missing from the queue's folder.")
        except (_StoppedError, OutputError, OSError, sqlite3.Error):
            self._queue.release(claim)
            raise
        except MrliftError as error:
            # Of the links nothing is left; the files themselves are kept.
            words = (str(error), _words(error))
            self._refuse(claim, *(w.replace(str(work), str(_note(claim).parent)) for w in words))
        except MemoryError:
            self._refuse(claim, "It needs more memory than this machine has.")
        except Exception as error:
            self._refuse(claim, f"A fault of mrlift: {type(error).__name__}.")
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _derive(self, claim: Claim, work: Path, result: Path) -> None:
        rule, reason = self._rule_for(_first_header(claim))
        if rule is None:
            self._set_aside(claim, "ignored", reason)
            return
        began = time.monotonic()
        _link(claim, work)
        uid = self._upscale(work, result, rule)
        sync_tree(result)
        destinations = tuple(d.name for d in self._config.destination)
        if not self._queue.finish(claim, result, uid, destinations):
            log.info("series %d: more instances came in meanwhile", claim.series)
            self.arrived(claim.series)
            shutil.rmtree(result, ignore_errors=True)
            return
        seconds = time.monotonic() - began
        self._metrics.seconds.observe(seconds)
        self._metrics.series.labels("processed").inc()
        log.info(
            "series %d: %d instances upscaled in %.1f s", claim.series, len(claim.files), seconds
        )
        self._made()

    def _rule_for(self, header: pydicom.Dataset) -> tuple[RuleConfig | None, str]:
        """The rule that a series falls under, or None and why it is left alone."""
        if is_ours(header) or self._queue.is_own(str(header.SeriesInstanceUID)):
            return None, "it was made by mrlift"
        try:
            facts = facts_of(header)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError("The header holds a malformed value. Repair it.") from error
        rule = matching(facts, self._config.rule)
        if rule is None:
            return None, "no rule fits it"
        return (None, "a rule says to skip it") if rule.skip else (rule, "")

    def _upscale(self, work: Path, result: Path, rule: RuleConfig) -> str:
        """Write the derived series of the instances in `work`; its SeriesInstanceUID."""

        def step(done: int, total: int) -> None:
            if self._ending.is_set():
                raise _StoppedError

        model = self._models[rule.model, rule.scale]
        save(upscale(load(work), rule.scale, model, progress=step), result)
        first = min(result.iterdir())
        header = pydicom.dcmread(first, specific_tags=["SeriesInstanceUID"])
        return str(header.SeriesInstanceUID)

    def _refuse(self, claim: Claim, reason: str, logged: str | None = None) -> None:
        if self._set_aside(claim, "refused", logged or reason):
            _note(claim).write_text(reason + "\n", encoding="utf-8")

    def _set_aside(self, claim: Claim, state: str, reason: str) -> bool:
        if not self._queue.set_aside(claim, state, reason):
            self.arrived(claim.series)
            return False
        self._metrics.series.labels(state).inc()
        level = logging.WARNING if state == "refused" else logging.INFO
        log.log(
            level, "series %d: %s, %d instances: %s",
            claim.series, state, len(claim.files), reason,
        )  # fmt: skip
        return True

    def _prune(self) -> None:
        self._pruned = time.monotonic()
        count = self._queue.prune(time.time() - self._config.queue.keep_days * 86400)
        if count:
            log.info("%d finished series removed", count)


def _models(config: NodeConfig) -> dict[tuple[str, int], Model]:
    wanted = {(rule.model, rule.scale) for rule in config.rule if not rule.skip}
    return {
        (name, scale): load_model(name or None, scale=scale, threads=config.threads)
        for name, scale in sorted(wanted)
    }


def _first_header(claim: Claim) -> pydicom.Dataset:
    first = min(claim.files)
    if not first.exists():
        raise FileNotFoundError(first.name)
    (header,) = read_headers(first)
    return header


def _link(claim: Claim, work: Path) -> None:
    """The claimed files alone: what comes in while they are read must not get mixed in."""
    work.mkdir(mode=0o700)
    for file in claim.files:
        os.link(file, work / file.name)


def _note(claim: Claim) -> Path:
    """Where the reason is written for which a series was refused."""
    return claim.files[0].parent / "refused.txt"


def _words(error: Exception) -> str:
    """What the log may hold of an error.

    Messages of mrlift carry no patient attributes; but some end in the words of another library,
    which may quote a value of the file. Those stay in refused.txt, beside the images.
    """
    if not isinstance(error, MrliftError):
        return type(error).__name__
    if error.__cause__ is None and not isinstance(error, SeriesChoiceError):  # which lists UIDs
        return str(error)
    return f"{type(error).__name__}, see refused.txt in its folder"
