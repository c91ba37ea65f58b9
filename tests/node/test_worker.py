"""What the worker makes of series, and of what goes wrong."""

import logging
import threading
import time
import urllib.request

import pydicom
import pytest
from multiframe import write_enhanced
from peers import free_port
from phantoms import write_series
from pydicom.uid import EnhancedMRImageStorage

from mrlift.errors import InputError, OutputError, SeriesChoiceError
from mrlift.io.durable import sync
from mrlift.io.facts import is_ours
from mrlift.node import worker as module
from mrlift.node.config import (
    DestinationConfig,
    MetricsConfig,
    NodeConfig,
    QueueConfig,
    RuleConfig,
    ServerConfig,
)
from mrlift.node.metrics import Metrics
from mrlift.node.queue import Queue
from mrlift.node.service import Node
from mrlift.node.worker import ATTEMPTS, Worker


@pytest.fixture
def queue(tmp_path):
    held = Queue(tmp_path / "queue")
    yield held
    held.close()


@pytest.fixture
def worker(queue, tiny_weights):
    config = NodeConfig(
        QueueConfig(str(queue.folder), quiet=0.01),
        (DestinationConfig("a", "127.0.0.1", 1, "A"),),
        rule=(RuleConfig(model=str(tiny_weights)),),
    )
    return Worker(config, queue, Metrics(queue, ("a",)), threading.Event(), lambda: None)


def fill(queue, folder, slices=range(4), **attributes):
    """Put a phantom into the queue as the receiver would; the number of the series."""
    files = write_series(folder, **attributes)
    for k in slices:
        file = queue.new_file()
        file.write_bytes(files[k].read_bytes())
        sync(file)
        added = queue.add(file, "1.2.3.4", f"1.2.3.4.{k + 1}", "0")
    return added.series


def test_a_result_is_recorded(queue, worker, tmp_path):
    series = fill(queue, tmp_path / "in")
    worker._process(series)
    (delivery,) = queue.pending("a")
    assert len(list(delivery.folder.iterdir())) == 4
    assert queue.counts()["processed"] == 1
    assert not list(queue.work.iterdir())
    worker._process(series)
    assert len(queue.pending("a")) == 1


def enhanced(queue, folder, **options):
    """Put an Enhanced MR phantom into the queue; the number of its series."""
    made = write_enhanced(folder / "in.dcm", **options)
    header = pydicom.dcmread(made)
    file = queue.new_file()
    file.write_bytes(made.read_bytes())
    sync(file)
    return queue.add(file, header.SeriesInstanceUID, header.SOPInstanceUID, "0").series


def test_enhanced_series_become_enhanced_series_that_are_our_own(queue, worker, tmp_path):
    worker._process(enhanced(queue, tmp_path))
    (delivery,) = queue.pending("a")
    (file,) = delivery.folder.iterdir()
    derived = pydicom.dcmread(file)
    assert derived.SOPClassUID == EnhancedMRImageStorage
    assert derived.NumberOfFrames == 4
    assert is_ours(derived)


def test_several_contrasts_in_one_series_are_refused(queue, worker, tmp_path):
    series = enhanced(queue, tmp_path, contrasts=({"echo": 10.0}, {"echo": 80.0}))
    worker._process(series)
    assert queue.counts()["refused"] == 1
    assert (queue.series / str(series) / "refused.txt").read_text()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InputError("It has a gap."), "It has a gap."),
        (MemoryError(), "more memory"),
        (RuntimeError("Phantom^Anna"), "A fault of mrlift: RuntimeError"),
    ],
)
def test_what_is_wrong_with_a_series_costs_that_series(
    queue, worker, tmp_path, monkeypatch, caplog, error, reason
):
    def fail(*_, **__):
        raise error

    series = fill(queue, tmp_path / "in")
    monkeypatch.setattr(module, "load", fail)
    with caplog.at_level(logging.INFO):
        worker._process(series)
    assert queue.counts()["refused"] == 1
    assert reason in (queue.series / str(series) / "refused.txt").read_text()
    assert reason in caplog.text
    assert "Anna" not in caplog.text


def test_words_of_other_libraries_stay_out_of_the_log(queue, worker, tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise InputError("Malformed: Phantom^Anna.") from ValueError("Phantom^Anna")

    series = fill(queue, tmp_path / "in")
    monkeypatch.setattr(module, "load", fail)
    worker._process(series)
    assert "Anna" in (queue.series / str(series) / "refused.txt").read_text()
    assert "Anna" not in caplog.text
    assert "InputError, see refused.txt" in caplog.text
    assert module._words(SeriesChoiceError("1.2.3")) == (
        "SeriesChoiceError, see refused.txt in its folder"
    )


def test_a_disk_that_cannot_be_written_is_no_fault_of_the_series(
    queue, worker, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise OutputError("No space left on device.")

    series = fill(queue, tmp_path / "in")
    monkeypatch.setattr(module, "save", fail)
    for _ in range(ATTEMPTS + 2):
        worker._process(series)
    assert queue.receiving() == {series: 0}
    assert series in worker._due
    monkeypatch.undo()
    worker._process(series)
    assert queue.counts()["processed"] == 1


def test_a_series_that_ends_the_process_is_set_aside(queue, worker, tmp_path):
    series = fill(queue, tmp_path / "in")
    for _ in range(ATTEMPTS):
        queue.begin(series)
    worker._process(series)
    assert "ended 5 times" in (queue.series / str(series) / "refused.txt").read_text()


def test_one_that_ended_the_process_comes_last(queue, worker, tmp_path):
    first = fill(queue, tmp_path / "in")
    file = queue.new_file()
    file.touch()
    second = queue.add(file, "9", "9.1", "0").series
    queue.begin(first)
    worker.arrived(first)
    worker.arrived(second)
    worker._ending.wait(0.05)
    assert [worker._next(), worker._next(), worker._next.__name__] == [second, first, "_next"]


def test_an_instance_that_comes_during_the_work_makes_the_result_stale(
    queue, worker, tmp_path, monkeypatch
):
    series = fill(queue, tmp_path / "in", range(3))
    load = module.load

    def slow(path):
        volume = load(path)
        if len(queue.receiving()) and not queue.unsent() and volume.slice_count == 3:
            fill(queue, tmp_path / "in", range(3, 4))
        return volume

    monkeypatch.setattr(module, "load", slow)
    worker._process(series)
    assert queue.pending("a") == []
    assert not list(queue.results.iterdir())
    worker._process(series)
    (delivery,) = queue.pending("a")
    assert len(list(delivery.folder.iterdir())) == 4


def test_a_file_that_vanished_is_said(queue, worker, tmp_path):
    series = fill(queue, tmp_path / "in")
    for file in sorted((queue.series / str(series)).iterdir())[:2]:
        file.unlink()
    worker._process(series)
    assert "missing" in (queue.series / str(series) / "refused.txt").read_text()


def test_a_node_that_is_starting_is_not_ill(tmp_path, tiny_weights, monkeypatch):
    """Who asks for its health meanwhile gets the answer when it has started."""
    config = NodeConfig(
        QueueConfig(str(tmp_path / "queue"), reserve_mb=1),
        (DestinationConfig("a", "127.0.0.1", 1, "A"),),
        rule=(RuleConfig(model=str(tiny_weights)),),
        server=ServerConfig(port=free_port()),
        metrics=MetricsConfig(free_port()),
    )
    start, bound = Worker.start, threading.Event()

    def slowly(worker):
        bound.set()
        time.sleep(0.5)
        start(worker)

    monkeypatch.setattr(Worker, "start", slowly)
    node = Node(config)
    starting = threading.Thread(target=node.start)
    starting.start()
    try:
        assert bound.wait(10)
        with urllib.request.urlopen(f"http://127.0.0.1:{config.metrics.port}/health") as answer:
            assert answer.read() == b"ok\n"
    finally:
        starting.join()
        node.close()
