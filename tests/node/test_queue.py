"""The queue on disk: what was taken is there, once, whatever happens."""

import hashlib
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mrlift.errors import OutputError
from mrlift.io.durable import sync_tree
from mrlift.node.queue import Queue


@pytest.fixture
def queue(tmp_path):
    held = Queue(tmp_path / "queue")
    yield held
    held.close()


def add(queue, uid, series="1.2", content="image"):
    file = queue.new_file()
    file.write_text(content)
    return queue.add(file, series, uid, hashlib.sha256(content.encode()).hexdigest())


def finish(queue, claim, uid="9.9"):
    result = queue.new_result()
    result.mkdir()
    (result / "00001.dcm").write_text("derived")
    sync_tree(result)
    return queue.finish(claim, result, uid, ("a", "b"))


def test_a_kill_after_any_line_loses_nothing_and_doubles_nothing(tmp_path):
    """Every 7th line here; `python tests/node/killed_queue.py FOLDER 1` tries them all."""
    program = Path(__file__).parent / "killed_queue.py"
    done = subprocess.run(
        [sys.executable, program, tmp_path, "7"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


def test_series_from_first_instance_to_last_delivery(queue):
    first, second = add(queue, "1.2.1"), add(queue, "1.2.2")
    assert first.series == second.series
    assert first.waiting
    assert not first.duplicate
    assert queue.receiving() == {first.series: 0}
    claim = queue.begin(first.series)
    assert len(claim.files) == 2
    assert all(file.read_text() == "image" for file in claim.files)
    assert finish(queue, claim)
    assert queue.counts() == {"receiving": 0, "processed": 1, "ignored": 0, "refused": 0}
    assert queue.unsent() == {"a": 1, "b": 1}
    assert queue.is_own("9.9")
    (delivery,) = queue.pending("a")
    queue.sent(delivery, "a")
    assert queue.pending("a") == []
    assert len(queue.pending("b")) == 1


def test_a_duplicate_changes_nothing(queue):
    series = add(queue, "1.2.1").series
    again = add(queue, "1.2.1")
    assert (again.duplicate, again.differs, again.waiting) == (True, False, True)
    finish(queue, queue.begin(series))
    late = add(queue, "1.2.1", content="other")
    assert (late.duplicate, late.differs, late.waiting) == (True, True, False)
    assert queue.begin(series) is None
    assert [f.read_text() for f in queue.series.glob("*/*.dcm")] == ["image"]
    assert not list(queue.incoming.iterdir())


def test_a_late_instance_brings_the_whole_series_back(queue):
    series = add(queue, "1.2.1").series
    finish(queue, queue.begin(series))
    assert add(queue, "1.2.2").waiting
    claim = queue.begin(series)
    assert len(claim.files) == 2
    assert finish(queue, claim, "9.8")
    assert len(queue.pending("a")) == 2


def test_a_result_that_lacks_an_instance_is_not_recorded(queue):
    series = add(queue, "1.2.1").series
    claim = queue.begin(series)
    add(queue, "1.2.2")
    assert not finish(queue, claim)
    assert not queue.set_aside(claim, "refused", "gap")
    assert queue.unsent() == {}
    assert queue.receiving() == {series: 0}


def test_sending_again_gives_a_refused_series_another_try(queue):
    series = add(queue, "1.2.1").series
    assert queue.set_aside(queue.begin(series), "refused", "gap")
    assert queue.receiving() == {}
    assert add(queue, "1.2.1").waiting
    assert queue.receiving() == {series: 0}


def test_attempts_are_counted_until_something_new_comes(queue):
    series = add(queue, "1.2.1").series
    assert [queue.begin(series).attempts for _ in range(3)] == [1, 2, 3]
    queue.release(queue.begin(series))
    assert queue.begin(series).attempts == 4
    add(queue, "1.2.2")
    assert queue.begin(series).attempts == 1


def test_no_name_in_a_file_leads_out_of_the_queue(queue, tmp_path):
    add(queue, "../../../../evil", series="/etc/passwd")
    add(queue, "a\0b", series="..")
    inside = list(tmp_path.rglob("*.dcm"))
    assert len(inside) == 2
    assert all(queue.series in f.parents for f in inside)


def test_only_finished_and_delivered_series_are_forgotten(queue):
    for uid in ("1", "2", "3"):
        add(queue, f"{uid}.1", series=uid)
    sent, unsent, open_ = sorted(queue.receiving())
    finish(queue, queue.begin(sent), "9.1")
    for name in ("a", "b"):
        (delivery,) = queue.pending(name)
        queue.sent(delivery, name)
    finish(queue, queue.begin(unsent), "9.2")
    assert queue.prune(time.time() - 60) == 0
    assert queue.prune(time.time() + 1) == 1
    assert {int(f.name) for f in queue.series.iterdir()} == {unsent, open_}
    assert len(list(queue.results.iterdir())) == 1
    assert queue.is_own("9.1")
    assert add(queue, "1.1", series="1").series not in (sent, unsent, open_)


def test_one_node_at_a_time(queue):
    with pytest.raises(OutputError, match="Another node"):
        Queue(queue.folder)


def test_a_queue_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "queue").write_text("a file")
    with pytest.raises(OutputError, match="Cannot use the queue"):
        Queue(tmp_path / "queue")
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "queue.sqlite").write_text("no database, but longer than a header " * 99)
    with pytest.raises(OutputError, match="cannot be used: file is not a database"):
        Queue(tmp_path / "q")


def test_another_version_is_not_touched(tmp_path):
    Queue(tmp_path / "q").close()
    database = sqlite3.connect(tmp_path / "q" / "queue.sqlite")
    database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(OutputError, match="version 7"):
        Queue(tmp_path / "q")


def test_other_users_see_nothing(queue):
    assert (queue.folder.stat().st_mode & 0o077) == 0


def test_what_cannot_be_stored_leaves_no_row(queue, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mrlift.node.queue.move", full)
    with pytest.raises(OSError, match="No space"):
        add(queue, "1.2.1")
    monkeypatch.undo()
    assert queue.receiving() == {}
    assert not add(queue, "1.2.1").duplicate
