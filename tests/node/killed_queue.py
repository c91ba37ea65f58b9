"""Ends a process after each line of the queue's code in turn, and looks at what it left.

A program of its own, since it forks: `python killed_queue.py FOLDER STRIDE` ends after every
STRIDE-th line, prints how many moments that were, and fails at the first at which something was
lost or made twice.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

from mrlift.io import durable
from mrlift.io.durable import sync, sync_tree
from mrlift.node import queue
from mrlift.node.queue import Queue

CODE = {queue.__file__, durable.__file__}


def add(held, uid):
    """As the receiver does it."""
    file = held.new_file()
    file.write_text(uid)
    sync(file)
    held.add(file, "1.2", uid, hashlib.sha256(uid.encode()).hexdigest())


def process(held):
    """As the worker does it: a result names what it was made of."""
    for series in held.receiving():
        claim = held.begin(series)
        uids = sorted(file.read_text() for file in claim.files)
        result = held.new_result()
        result.mkdir()
        (result / "content").write_text(json.dumps(uids))
        sync_tree(result)
        assert held.finish(claim, result, result.name, ("a",))


def deliver(held, archive):
    """As the sender does it: the archive knows a result by its UID, the name of its folder."""
    for delivery in held.pending("a"):
        (archive / delivery.folder.name).write_text((delivery.folder / "content").read_text())
        held.sent(delivery, "a")


def story(folder, archive, acknowledged):
    """Two instances, a result, a duplicate, a late instance, a second result."""
    held = Queue(folder)
    for uid in ("1", "2", None, "2", "3", None):
        if uid is None:
            process(held)
            deliver(held, archive)
        else:
            add(held, uid)
            (acknowledged / uid).touch()
    held.close()


def killed_after(lines, *arguments):
    """Fork, and end the child without a word after so many lines; whether it came to its end."""
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame, event, _):
            nonlocal count
            if frame.f_code.co_filename not in CODE:
                return None
            if event == "line":
                count += 1
                if count > lines:
                    os._exit(9)
            return trace

        sys.settrace(trace)
        story(*arguments)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def check(folder, archive, acknowledged):
    """Go on after the kill as senders and node would, and judge the archive."""
    held = Queue(folder)
    assert not list(held.incoming.iterdir())
    known = {uid.name for uid in acknowledged.iterdir()}
    stored = {f.read_text() for f in held.series.glob("*/*.dcm")}
    assert known <= stored, f"lost: {known - stored}"
    before = [json.loads(f.read_text()) for f in archive.iterdir()]
    process(held)
    deliver(held, archive)
    for uid in ("1", "2", "3"):
        if uid not in known:
            add(held, uid)
    process(held)
    deliver(held, archive)
    made = [tuple(json.loads(f.read_text())) for f in archive.iterdir()]
    assert len(made) == len(set(made)), f"the same work twice: {made}"
    assert ("1", "2", "3") in made
    assert all(tuple(uids) in made for uids in before)
    assert held.counts()["processed"] == 1
    assert not held.unsent()
    folders = {f.name for f in held.results.iterdir()}
    assert folders == {f.name for f in archive.iterdir()}, "a result without a trace"
    held.close()


def main():
    """Try every moment until the story comes to its end."""
    base, stride, lines, count, finished = Path(sys.argv[1]), int(sys.argv[2]), 0, 0, False
    while not finished:
        parts = [base / str(lines) / name for name in ("queue", "archive", "acknowledged")]
        for part in parts:
            part.mkdir(parents=True)
        finished = killed_after(lines, *parts)
        check(*parts)
        lines += stride
        count += 1
    sys.stdout.write(f"{count}\n")


main()
