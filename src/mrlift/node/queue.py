"""The queue on disk: what was received, what was made of it, who has it.

Files hold the images, SQLite (write-ahead log, every commit synced) holds the facts. A file always
comes before its row and goes after it, so whatever moment the process is killed at:

- an instance with a row is on disk, and only then is it acknowledged;
- a result with a row is on disk with its final UIDs, and only then is it sent;
- a file without a row was never acknowledged or sent, and is removed at the next start.

::

    FOLDER/queue.sqlite   facts
           lock           held while a node runs
           incoming/      instances being written
           series/ID/     instances of a series, and refused.txt where it was refused
           work/ID/       links to those that are being processed
           results/NAME/  derived series
"""

import fcntl
import hashlib
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrlift.errors import OutputError
from mrlift.io.durable import make_folder, move, sync

VERSION = 1
SCHEMA = """
CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- what the log calls it
    uid TEXT UNIQUE NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('receiving', 'processed', 'ignored', 'refused')),
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0, -- begun since the last new instance
    changed REAL NOT NULL -- seconds since 1970
);
CREATE TABLE instance (
    series INTEGER NOT NULL REFERENCES series ON DELETE CASCADE,
    uid TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (series, uid)
) WITHOUT ROWID;
CREATE TABLE result (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    series INTEGER NOT NULL REFERENCES series ON DELETE CASCADE,
    folder TEXT UNIQUE NOT NULL
);
CREATE TABLE delivery (
    result INTEGER NOT NULL REFERENCES result ON DELETE CASCADE,
    destination TEXT NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (result, destination)
) WITHOUT ROWID;
CREATE TABLE own (uid TEXT PRIMARY KEY) WITHOUT ROWID; -- series that this node made
"""


@dataclass(frozen=True)
class Added:
    """What became of an instance.

    Attributes:
        series: number of its series.
        duplicate: it was there before.
        differs: it was there before with other content, which is kept.
        waiting: its series is being received, or is again.
    """

    series: int
    duplicate: bool
    differs: bool
    waiting: bool


@dataclass(frozen=True)
class Claim:
    """A series as it stands when work on it begins; `attempts` counts this one."""

    series: int
    files: tuple[Path, ...]
    attempts: int


@dataclass(frozen=True)
class Delivery:
    """A result that a destination lacks."""

    result: int
    series: int
    folder: Path


class Queue:
    """The queue in a folder, for one process and any number of its threads.

    Raises:
        OutputError: the folder cannot be made or written, another node uses it, or what is in it
            is damaged or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.incoming, self.work = folder / "incoming", folder / "work"
        self.series, self.results = folder / "series", folder / "results"
        self._guard = threading.Lock()
        with ExitStack() as undo:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                for part in (self.incoming, self.work, self.series, self.results):
                    make_folder(part)
                self._lock = undo.enter_context((folder / "lock").open("w"))
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file = folder / "queue.sqlite"
                self._database = sqlite3.connect(
                    file, isolation_level=None, check_same_thread=False
                )
                undo.callback(self._database.close)
                _set_up(self._database, folder)
                self._remove_leftovers()
            except BlockingIOError as error:
                raise OutputError(
                    f"Another node uses the queue {folder}: stop it first."
                ) from error
            except OSError as error:
                raise OutputError(f"Cannot use the queue {folder}: {error.strerror}.") from error
            except sqlite3.Error as error:
                raise OutputError(
                    f"{folder}/queue.sqlite cannot be used: {error}. Move the folder away to "
                    "begin with an empty queue."
                ) from error
            undo.pop_all()

    def close(self) -> None:
        """Let another process have the queue."""
        with self._guard:
            self._database.close()
            self._lock.close()

    def new_file(self) -> Path:
        """A name for an instance that is being received."""
        return self.incoming / f"{uuid.uuid4().hex}.dcm"

    def new_result(self) -> Path:
        """A name for a folder that will hold a derived series."""
        return self.results / uuid.uuid4().hex

    def add(self, file: Path, series_uid: str, uid: str, sha256: str) -> Added:
        """Take a file of `incoming`, synced already, for an instance; it is on disk on return.

        A new instance puts its series back into reception whatever became of it before. One that
        is there already is dropped, but gives a series that was ignored or refused another try.

        Raises:
            OSError, sqlite3.Error: it could not be stored; nothing has changed.
        """
        with self._transaction() as rows:
            series, state = self._series_of(series_uid)
            found = rows.execute(
                "SELECT sha256 FROM instance WHERE series = ? AND uid = ?", (series, uid)
            ).fetchone()
            if found is None:
                folder = self.series / str(series)
                make_folder(folder)
                move(file, folder / _file_name(uid))
                rows.execute("INSERT INTO instance VALUES (?, ?, ?)", (series, uid, sha256))
            else:
                file.unlink()
            if found is None or state in ("ignored", "refused"):
                rows.execute(
                    "UPDATE series SET state = 'receiving', reason = '', attempts = 0, changed = ? "
                    "WHERE id = ?",
                    (time.time(), series),
                )
        duplicate = found is not None
        differs = duplicate and found[0] != sha256
        return Added(series, duplicate, differs, not duplicate or state != "processed")

    def receiving(self) -> dict[int, int]:
        """Series that wait for their end or for the worker, with the attempts made so far."""
        return dict(self._read("SELECT id, attempts FROM series WHERE state = 'receiving'"))

    def begin(self, series: int) -> Claim | None:
        """Note that work on a series begins, and list what it consists of now.

        None where the series waits for no work.
        """
        with self._transaction() as rows:
            changed = rows.execute(
                "UPDATE series SET attempts = attempts + 1 WHERE id = ? AND state = 'receiving'",
                (series,),
            )
            if changed.rowcount == 0:
                return None
            ((attempts,),) = rows.execute("SELECT attempts FROM series WHERE id = ?", (series,))
            found = rows.execute("SELECT uid FROM instance WHERE series = ?", (series,)).fetchall()
        folder = self.series / str(series)
        return Claim(series, tuple(folder / _file_name(uid) for (uid,) in found), attempts)

    def release(self, claim: Claim) -> None:
        """The work was broken off for a reason that lies outside of the series."""
        with self._transaction() as rows:
            rows.execute(
                "UPDATE series SET attempts = max(attempts - 1, 0) WHERE id = ?", (claim.series,)
            )

    def finish(self, claim: Claim, result: Path, uid: str, destinations: tuple[str, ...]) -> bool:
        """Record a result, synced already, and who is to have it.

        Args:
            claim: what it was made from.
            result: its folder in `results`.
            uid: its SeriesInstanceUID.
            destinations: names.

        Returns:
            False where instances have come in meanwhile: the result is stale and not recorded.
        """
        with self._transaction() as rows:
            if not self._close(claim, "processed", ""):
                return False
            made = rows.execute(
                "INSERT INTO result (series, folder) VALUES (?, ?)", (claim.series, result.name)
            ).lastrowid
            rows.execute("INSERT OR IGNORE INTO own VALUES (?)", (uid,))
            rows.executemany(
                "INSERT INTO delivery (result, destination) VALUES (?, ?)",
                [(made, name) for name in destinations],
            )
        return True

    def set_aside(self, claim: Claim, state: str, reason: str) -> bool:
        """End a series without a result, as "ignored" or "refused"; False as in `finish`."""
        with self._transaction():
            return self._close(claim, state, reason)

    def is_own(self, series_uid: str) -> bool:
        """Whether this node made the series."""
        return bool(self._read("SELECT 1 FROM own WHERE uid = ?", series_uid))

    def pending(self, destination: str) -> list[Delivery]:
        """What a destination is still to be sent, oldest first."""
        found = self._read(
            "SELECT result.id, series, folder FROM delivery JOIN result ON result = result.id "
            "WHERE destination = ? AND NOT sent ORDER BY result.id",
            destination,
        )
        return [Delivery(result, series, self.results / name) for result, series, name in found]

    def sent(self, delivery: Delivery, destination: str) -> None:
        """A destination has a whole result."""
        with self._transaction() as rows:
            rows.execute(
                "UPDATE delivery SET sent = 1 WHERE result = ? AND destination = ?",
                (delivery.result, destination),
            )
            rows.execute(
                "UPDATE series SET changed = ? WHERE id = ?", (time.time(), delivery.series)
            )

    def counts(self) -> dict[str, int]:
        """Number of series in each state."""
        states = dict.fromkeys(("receiving", "processed", "ignored", "refused"), 0)
        return states | dict(self._read("SELECT state, count(*) FROM series GROUP BY state"))

    def unsent(self) -> dict[str, int]:
        """Number of results that each destination still lacks, where there are any."""
        return dict(
            self._read("SELECT destination, count(*) FROM delivery WHERE NOT sent GROUP BY 1")
        )

    def prune(self, before: float) -> int:
        """Forget series that were finished and delivered before a time; how many there were.

        What this node made is known as its own for ever.
        """
        old = (
            "SELECT id FROM series WHERE state != 'receiving' AND changed < ? AND id NOT IN "
            "(SELECT series FROM result JOIN delivery ON result = result.id WHERE NOT sent) "
            "LIMIT 500"
        )
        with self._transaction() as rows:
            series = [row[0] for row in rows.execute(old, (before,))]
            marks = ", ".join("?" * len(series))
            made = rows.execute(f"SELECT folder FROM result WHERE series IN ({marks})", series)
            folders = [self.results / name for (name,) in made]
            rows.execute(f"DELETE FROM series WHERE id IN ({marks})", series)
        for folder in [*folders, *(self.series / str(number) for number in series)]:
            shutil.rmtree(folder, ignore_errors=True)
        return len(series)

    def _series_of(self, uid: str) -> tuple[int, str]:
        found = self._database.execute(
            "SELECT id, state FROM series WHERE uid = ?", (uid,)
        ).fetchone()
        if found:
            return int(found[0]), str(found[1])
        made = self._database.execute(
            "INSERT INTO series (uid, state, changed) VALUES (?, 'receiving', ?)",
            (uid, time.time()),
        )
        return int(made.lastrowid or 0), "receiving"

    def _close(self, claim: Claim, state: str, reason: str) -> bool:
        """Within a transaction: end a series that is still what was claimed."""
        changed = self._database.execute(
            "UPDATE series SET state = ?, reason = ?, changed = ? WHERE id = ? AND "
            "(SELECT count(*) FROM instance WHERE series = ?) = ?",
            (state, reason, time.time(), claim.series, claim.series, len(claim.files)),
        )
        return changed.rowcount == 1

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guard:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _read(self, query: str, *values: str) -> list[Any]:
        with self._guard:
            return self._database.execute(query, values).fetchall()

    def _remove_leftovers(self) -> None:
        for file in self.incoming.iterdir():
            file.unlink()
        known = {name for (name,) in self._read("SELECT folder FROM result")}
        known |= {str(number) for (number,) in self._read("SELECT id FROM series")}
        for part in (self.work, self.results, self.series):
            for folder in part.iterdir():
                if part is self.work or folder.name not in known:
                    shutil.rmtree(folder)
        rows = {
            f"{series}/{_file_name(uid)}"
            for series, uid in self._read("SELECT series, uid FROM instance")
        }
        for file in self.series.glob("*/*.dcm"):
            if file.relative_to(self.series).as_posix() not in rows:
                file.unlink()


def _set_up(database: sqlite3.Connection, folder: Path) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")  # NORMAL may lose commits when power fails
    database.execute("PRAGMA foreign_keys = ON")
    ((version,),) = database.execute("PRAGMA user_version")
    if version == 0:
        database.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
        sync(folder)
    elif version != VERSION:
        raise sqlite3.DatabaseError(f"version {version} of the queue, expected {VERSION}")


def _file_name(uid: str) -> str:
    """A name that no content of a file can lead out of its folder."""
    return f"{hashlib.sha256(uid.encode()).hexdigest()[:32]}.dcm"
