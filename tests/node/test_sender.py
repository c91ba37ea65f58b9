"""Deliveries, with an archive that the test tells what to answer."""

import threading

import pytest
from peers import free_port, wait_until
from phantoms import write_series
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage

from mrlift.io.durable import sync, sync_tree
from mrlift.node.config import DestinationConfig
from mrlift.node.metrics import Metrics
from mrlift.node.queue import Queue
from mrlift.node.sender import Sender


@pytest.fixture
def queue(tmp_path):
    held = Queue(tmp_path / "queue")
    yield held
    held.close()


def result(queue, uid, slices=3):
    """A series in the queue with a result of so many files, whose UIDs begin with `uid`."""
    file = queue.new_file()
    file.touch()
    sync(file)
    claim = queue.begin(queue.add(file, uid, f"{uid}.0", "0").series)
    folder = queue.new_result()
    write_series(folder, series=uid)
    for extra in sorted(folder.iterdir())[slices:]:
        extra.unlink()
    sync_tree(folder)
    assert queue.finish(claim, folder, uid, ("a",))


@pytest.fixture
def archive():
    """A port, what came in there, and a function whose value is the answer."""
    answers = {"status": lambda uid: 0x0000}
    came = []

    def store(event):
        uid = str(event.request.AffectedSOPInstanceUID)
        came.append(uid)
        return answers["status"](uid)

    entity = AE("ARCHIVE")
    entity.add_supported_context(MRImageStorage)
    port = free_port()
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    yield port, came, answers
    server.shutdown()


@pytest.fixture
def sender(queue, archive):
    stop = threading.Event()
    config = DestinationConfig(
        "a", "127.0.0.1", archive[0], "ARCHIVE", timeout=5, retry=0.05, retry_max=0.2
    )
    thread = Sender(config, "MRLIFT", queue, Metrics(queue, ("a",)), stop)
    yield thread
    stop.set()
    thread.close(5)
    assert not thread.is_alive()


def test_what_is_refused_is_sent_again_with_the_same_uids(queue, archive, sender):
    _, came, answers = archive
    left = [0xA700, 0xC000, 0x0110]
    answers["status"] = lambda uid: left.pop() if uid == "1.5.2" and left else 0x0000
    result(queue, "1.5")
    sender.start()
    wait_until(lambda: not queue.pending("a"), 20)
    assert came == ["1.5.1", "1.5.2"] * 3 + ["1.5.1", "1.5.2", "1.5.3"]


def test_one_refused_result_does_not_hold_up_the_others(queue, archive, sender):
    _, came, answers = archive
    answers["status"] = lambda uid: 0xA900 if uid.startswith("1.5.") else 0xB000
    result(queue, "1.5")
    result(queue, "1.6")
    sender.start()
    wait_until(lambda: len(queue.pending("a")) == 1, 20)
    wait_until(lambda: came.count("1.5.1") > 2, 20)
    assert [uid for uid in came if uid.startswith("1.6.")] == ["1.6.1", "1.6.2", "1.6.3"]


def test_a_result_that_cannot_be_read_does_not_hold_up_the_others(queue, archive, sender):
    result(queue, "1.5")
    next(queue.results.iterdir()).joinpath("000.dcm").write_bytes(b"damaged")
    result(queue, "1.6")
    sender.start()
    wait_until(lambda: len(queue.pending("a")) == 1, 20)


def test_waiting_grows_to_its_limit(sender):
    assert [round(sender._delay(n), 2) for n in (1, 2, 3, 4, 5000)] == [0.05, 0.1, 0.2, 0.2, 0.2]
