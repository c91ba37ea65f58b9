"""The ledger: what became of each series, in one SQLite file that only the client writes.

A row is written when a task is submitted ("running") and again when its outcome is known, which is
after its output is on disk. So whatever moment the client is killed at, a row that says "done" is
true, and what was lost is a row that says "running": it is done again.
"""

import csv
import fcntl
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TextIO

from mrlift._version import __version__
from mrlift.archive.task import HIDDEN, Outcome, Settings, Task
from mrlift.config import from_table
from mrlift.errors import ConfigError, InputError, OutputError
from mrlift.io.facts import Selection

VERSION = 1
SCHEMA = """
CREATE TABLE series (
    path TEXT NOT NULL, -- of a NIfTI file or a DICOM folder, in the source
    uid TEXT NOT NULL, -- SeriesInstanceUID, or name of a damaged file; '' for NIfTI
    part INTEGER NOT NULL, -- stack, contrast or time point, from 1; 0 where there is only one
    status TEXT NOT NULL CHECK (
        status IN ('waiting', 'running', 'done', 'skipped', 'failed', 'quarantined')),
    error TEXT NOT NULL DEFAULT '', -- kind
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    fingerprint TEXT NOT NULL DEFAULT '', -- of names, sizes and times of the input
    input_digest TEXT NOT NULL DEFAULT '', -- SHA-256
    output TEXT NOT NULL DEFAULT '', -- in the destination
    output_digest TEXT NOT NULL DEFAULT '', -- SHA-256
    output_mark TEXT NOT NULL DEFAULT '', -- of names, sizes and times of the output
    ours INTEGER NOT NULL DEFAULT 0, -- what is there under the output's name was made here
    slices INTEGER NOT NULL DEFAULT 0,
    read_s REAL NOT NULL DEFAULT 0,
    compute_s REAL NOT NULL DEFAULT 0,
    write_s REAL NOT NULL DEFAULT 0,
    worker TEXT NOT NULL DEFAULT '',
    version TEXT NOT NULL DEFAULT '', -- of mrlift
    card TEXT NOT NULL DEFAULT '',
    changed REAL NOT NULL, -- seconds since 1970
    PRIMARY KEY (path, uid, part)
) WITHOUT ROWID;
CREATE INDEX series_status ON series (status, error);
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    began REAL NOT NULL,
    updated REAL NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0,
    cores INTEGER NOT NULL DEFAULT 0,
    finished INTEGER NOT NULL DEFAULT 0, -- series that were done or failed
    visited INTEGER NOT NULL DEFAULT 0, -- files and folders that are behind
    expected INTEGER -- files and folders in all, when they have been counted
);
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
COLUMNS = (
    "path", "uid", "part", "status", "error", "reason", "attempts", "fingerprint", "input_digest",
    "output", "output_digest", "output_mark", "ours", "slices", "read_s", "compute_s", "write_s",
    "worker", "version", "card", "changed",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row; the attributes are those of the table `series`."""

    path: str
    uid: str
    part: int
    status: str
    error: str
    reason: str
    attempts: int
    fingerprint: str
    input_digest: str
    output: str
    output_digest: str
    output_mark: str
    ours: int
    slices: int
    read_s: float
    compute_s: float
    write_s: float
    worker: str
    version: str
    card: str
    changed: float


@dataclass(frozen=True)
class Pace:
    """How a run goes: `share` of the walk behind it, None before all is counted."""

    began: float
    seconds: float
    ended: bool
    cores: int
    finished: int
    share: float | None

    @property
    def per_hour(self) -> float:
        """Series finished in an hour."""
        return 3600 * self.finished / self.seconds if self.seconds else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to go, if the rest is like what is done; None where that is not known."""
        return self.seconds * (1 / self.share - 1) if self.share and not self.ended else None


class Ledger:
    """The ledger of a destination.

    Args:
        file: SQLite file.
        write: create it if need be and keep other runs out; else it is only read.

    Raises:
        InputError: there is none to read.
        OutputError: it is damaged, of another version, in use by another run, or cannot be written.
    """

    def __init__(self, file: Path, *, write: bool = False) -> None:
        self.file = file
        self._card = ""
        if not write and not file.exists():
            raise InputError(f"{file} does not exist: no archive run has been made there.")
        with ExitStack() as undo:
            try:
                if write:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    self._lock = undo.enter_context(file.with_suffix(".lock").open("w"))
                    fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._database = sqlite3.connect(
                    file, isolation_level=None, timeout=30, check_same_thread=False
                )
                undo.callback(self._database.close)
                self._set_up(write=write)
            except BlockingIOError as error:
                raise OutputError(f"Another run writes {file}: wait for it or stop it.") from error
            except OSError as error:
                raise OutputError(f"Cannot write {file}: {error.strerror}.") from error
            except sqlite3.Error as error:
                raise OutputError(
                    f"{file} cannot be used: {error}. Move it away and use another destination."
                ) from error
            undo.pop_all()

    def close(self) -> None:
        """Let another process write it."""
        self._database.close()
        if hasattr(self, "_lock"):
            self._lock.close()

    def _set_up(self, *, write: bool) -> None:
        ((version,),) = self._database.execute("PRAGMA user_version")
        if version == 0 and write:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
        elif version == 0:
            raise InputError(f"{self.file} is empty: no archive run has been made there.")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"version {version} of the ledger, expected {VERSION}")
        # Without a sync at each commit the last rows may be lost when power fails, never the
        # file: their series are done again, with the same result.
        self._database.execute("PRAGMA synchronous = NORMAL")

    def settle(self, wanted: Settings) -> Settings:
        """What this archive is made with; noted on its first run.

        Raises:
            ConfigError: it was begun with other settings.
        """
        known = self.settings()
        if known is None:
            value = json.dumps(asdict(wanted))
            self._database.execute("INSERT INTO setting VALUES ('settings', ?)", (value,))
            known = wanted
        self._card = known.card
        for name, value in asdict(wanted).items():
            if name != "created" and getattr(known, name) != value:
                raise ConfigError(
                    f"{known.dest} was begun with {name} {getattr(known, name)!r}, now it is "
                    f"{value!r}. Mixed results help nobody: use another destination."
                )
        return known

    def settings(self) -> Settings | None:
        """What this archive is made with; None before its first run."""
        found = self._database.execute("SELECT value FROM setting WHERE name = 'settings'")
        row = found.fetchone()
        return Settings(**json.loads(row[0])) if row else None

    def select(self, selection: Selection) -> None:
        """Note which series a run takes, for `retry`."""
        value = json.dumps(asdict(selection))
        self._database.execute("INSERT OR REPLACE INTO setting VALUES ('selection', ?)", (value,))

    def selection(self) -> Selection:
        """Which series the last run took."""
        found = self._database.execute("SELECT value FROM setting WHERE name = 'selection'")
        row = found.fetchone()
        return from_table(Selection, json.loads(row[0]), "select") if row else Selection()

    def rows(self, path: str, uid: str) -> list[Row]:
        """What is known of a series, part by part."""
        found = self._database.execute(
            f"SELECT {', '.join(COLUMNS)} FROM series WHERE path = ? AND uid = ? ORDER BY part",
            (path, uid),
        )
        return [Row(*values) for values in found]

    def begin(self, task: Task, attempts: int) -> None:
        """A task is about to be submitted."""
        self._replace(task, [_row(task, Outcome("done"), attempts, "", "running")])

    def record(self, task: Task, outcomes: list[Outcome], attempts: int, worker: str) -> None:
        """A task has ended."""
        rows = [_row(task, o, attempts, worker, o.status, self._card) for o in outcomes]
        self._replace(task, rows)

    def touched(self, task: Task, known: list[Row]) -> None:
        """The files of a series are others, their content is the same: keep what is known."""
        fresh = [Row(**asdict(row) | {"fingerprint": task.fingerprint}) for row in known]
        self._replace(task, fresh)

    def forget(self, path: str, keep: set[str]) -> None:
        """Strike out what a DICOM folder held once: all but these."""
        found = self._database.execute("SELECT DISTINCT uid FROM series WHERE path = ?", (path,))
        for (uid,) in found.fetchall():
            if uid not in keep:
                self._database.execute("DELETE FROM series WHERE path = ? AND uid = ?", (path, uid))

    def _replace(self, task: Task, rows: list[Row]) -> None:
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute(
                "DELETE FROM series WHERE path = ? AND uid = ?", (task.path, task.uid)
            )
            marks = ", ".join("?" * len(COLUMNS))
            self._database.executemany(
                f"INSERT INTO series VALUES ({marks})", [astuple(row) for row in rows]
            )

    def wait(self, error: str = "") -> list[str]:
        """Put failed and quarantined series, or those with one kind of error, back in line.

        Returns:
            Their paths, sorted.
        """
        chosen = "status IN ('failed', 'quarantined') AND (error = ? OR ? = '')"
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute(
                f"UPDATE series SET status = 'waiting', attempts = 0 WHERE {chosen}", (error, error)
            )
        found = self._database.execute(
            "SELECT DISTINCT path FROM series WHERE status IN ('waiting', 'running') ORDER BY path"
        )
        return [path for (path,) in found]

    def counts(self) -> dict[str, int]:
        """Number of series in each state that occurs."""
        return dict(self._database.execute("SELECT status, count(*) FROM series GROUP BY status"))

    def errors(self) -> list[tuple[str, str, int, str]]:
        """(status, kind of error, how often, an example), commonest first."""
        return self._database.execute(
            "SELECT status, error, count(*), min(reason) FROM series "
            "WHERE status IN ('failed', 'quarantined', 'skipped') "
            "GROUP BY status, error ORDER BY status, count(*) DESC"
        ).fetchall()

    def bad(self, limit: int = -1) -> list[Row]:
        """Failed and quarantined series, by path."""
        found = self._database.execute(
            f"SELECT {', '.join(COLUMNS)} FROM series WHERE status IN ('failed', 'quarantined') "
            "ORDER BY path, uid, part LIMIT ?",
            (limit,),
        )
        return [Row(*values) for values in found]

    def every(self) -> Iterator[Row]:
        """All rows, by path."""
        found = self._database.execute(f"SELECT {', '.join(COLUMNS)} FROM series ORDER BY 1, 2, 3")
        return (Row(*values) for values in found)

    def seconds(self) -> tuple[int, int, float, float, float]:
        """Series done, their slices, and seconds of reading, computing and writing in all."""
        found = self._database.execute(
            "SELECT count(*), total(slices), total(read_s), total(compute_s), total(write_s) "
            "FROM series WHERE status = 'done'"
        ).fetchone()
        return (int(found[0]), int(found[1]), *found[2:])

    def start_run(self) -> int:
        """Note that a run begins; its number."""
        now = time.time()
        made = self._database.execute("INSERT INTO run (began, updated) VALUES (?, ?)", (now, now))
        return int(made.lastrowid or 0)

    def tick(
        self,
        run: int,
        *,
        cores: int,
        finished: int,
        visited: int,
        expected: int | None,
        ended: bool = False,
    ) -> None:
        """Note how far a run has come."""
        self._database.execute(
            "UPDATE run SET updated = ?, cores = ?, finished = ?, visited = ?, expected = ?, "
            "ended = ? WHERE id = ?",
            (time.time(), cores, finished, visited, expected, ended, run),
        )

    def pace(self) -> Pace | None:
        """How the last run goes or went; None before the first."""
        row = self._database.execute(
            "SELECT began, updated, ended, cores, finished, visited, expected FROM run "
            "ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        began, updated, ended, cores, finished, visited, expected = row
        share = min(1.0, visited / expected) if expected else None
        return Pace(began, updated - began, bool(ended), cores, finished, share)

    def export(self, file: TextIO) -> int:
        """Write every row as CSV; how many there are."""
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        count = 0
        for row in self.every():
            writer.writerow(astuple(row))
            count += 1
        return count


def _row(
    task: Task, outcome: Outcome, attempts: int, worker: str, status: str, card: str = ""
) -> Row:
    ours = bool(task.output)  # looked at before the task was submitted
    read, compute, write = outcome.seconds
    return Row(
        task.path, task.uid, outcome.part, status, outcome.error, outcome.reason, attempts,
        task.fingerprint, outcome.input_digest, outcome.output, outcome.output_digest,
        outcome.output_mark, int(ours), outcome.slices, read, compute, write, worker, __version__,
        card, time.time(),
    )  # fmt: skip


def ledger_file(dest: Path, scope: str = "ledger") -> Path:
    """Where the ledger of a destination is, unless the user says otherwise."""
    return dest / HIDDEN / f"{scope}.sqlite"
