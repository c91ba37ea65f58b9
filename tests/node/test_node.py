"""`mrlift node` as a process of its own, with dcmtk and Orthanc as its peers."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pydicom
import pytest
from peers import ORTHANC, Node, Orthanc, free_port, send, storescp, wait_until
from phantoms import head, write_series

import mrlift

pytestmark = pytest.mark.skipif(not shutil.which("storescu"), reason="needs dcmtk")


@pytest.fixture
def archive(tmp_path):
    """dcmtk's storescp: its folder and port."""
    port = free_port()
    with storescp(tmp_path / "archive", port):
        yield tmp_path / "archive", port


def series(folder, name="1.2.3.4", slices=3, **attributes):
    attributes = {"SeriesDescription": "t1 phantom"} | attributes
    return write_series(folder, head((20, 24, slices)), series=name, **attributes)


def received(folder):
    return [pydicom.dcmread(f) for f in sorted(folder.iterdir())]


def finished(node, outcome, count=1):
    name = f'mrlift_node_finished_series_total{{outcome="{outcome}"}}'
    wait_until(lambda: node.metric(name) >= count, 30, f"{outcome} {count}")
    wait_until(node.idle, 30, "sending")


def test_a_series_goes_in_and_the_derived_one_comes_out(tmp_path, archive):
    """The same voxels as the command line gives; health, metrics, log and a clean end."""
    folder, port = archive
    files = series(tmp_path / "in")
    with Node(tmp_path, {"copy": port}) as node:
        assert node.get("/health") == (200, "ok\n")
        assert node.get("/nothing")[0] == 404
        assert send(files, node.port) == files
        finished(node, "processed")
        assert node.metric('mrlift_node_instances_total{outcome="stored"}') == 3
        assert node.metric('mrlift_node_sent_series_total{destination="copy"}') == 1
        assert node.metric("mrlift_node_upscale_seconds_count") == 1
        assert node.stop() == 0
    model = mrlift.load_model("mrl-tiny-x2-bicubic", threads=1)
    expected = mrlift.upscale(mrlift.load(tmp_path / "in"), 2, model)
    found = mrlift.load(folder)
    np.testing.assert_array_equal(found.voxels, expected.voxels)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    log = node.log.read_text()
    for words in ("'STORESCU' at 127.0.0.1", "series 1: 3 instances upscaled", "sent to copy"):
        assert words in log
    assert log.rstrip().endswith("stopped")
    for secret in ("Phantom", "Anna", "P1", "1.2.3.4", "t1 phantom", str(tmp_path)):
        assert secret not in log
        assert secret not in node.running.args
    assert "Traceback" not in log


def test_late_instances_duplicates_and_own_outputs(tmp_path, archive):
    folder, port = archive
    files = series(tmp_path / "in", slices=4)
    with Node(tmp_path, {"copy": port}) as node:
        assert len(send(files[:3], node.port)) == 3
        finished(node, "processed")
        assert len(received(folder)) == 3
        # Again what was processed: nothing happens.
        assert len(send(files[:3], node.port)) == 3
        assert node.metric('mrlift_node_instances_total{outcome="duplicate"}') == 3
        assert node.metric('mrlift_node_series{state="receiving"}') == 0
        # A late instance: the whole series again, as a second derived series.
        assert len(send(files[3:], node.port)) == 1
        finished(node, "processed", 2)
        by_series = {}
        for data in received(folder):
            by_series.setdefault(data.SeriesInstanceUID, []).append(data)
        assert sorted(map(len, by_series.values())) == [3, 4]
        # What the archive sends back: taken, and left alone.
        assert len(send(sorted(folder.iterdir()), node.port)) == 7
        finished(node, "ignored", 2)
        assert len(received(folder)) == 7
        assert "made by mrlift" in node.log.read_text()


def test_own_outputs_are_known_without_their_headers_too(tmp_path, archive):
    """An archive may strip sequences; the UID of the series is still that of a result."""
    folder, port = archive
    with Node(tmp_path, {"copy": port}) as node:
        send(series(tmp_path / "in"), node.port)
        finished(node, "processed")
        back = tmp_path / "back"
        back.mkdir()
        for data in received(folder):
            del data.ContributingEquipmentSequence
            data.DerivationDescription = ""
            data.save_as(back / f"{data.InstanceNumber}.dcm")
        assert len(send(sorted(back.iterdir()), node.port)) == 3
        finished(node, "ignored")


def test_a_bad_series_is_set_aside_and_the_rest_goes_on(tmp_path, archive):
    folder, port = archive
    rules = """
[[rule]]
description = ["*localizer*"]
skip = true
[[rule]]
contrast = ["T1"]
spacing = [0.1, 2.0]
model = "mrl-tiny-x2-bicubic"
"""
    gap = series(tmp_path / "gap", "1.2.3.5", slices=5)
    good = series(tmp_path / "good", "1.2.3.6")
    with Node(tmp_path, {"copy": port}, extra=rules) as node:
        send([*gap[:2], *gap[3:]], node.port)
        send(
            series(tmp_path / "phase", "1.2.3.7", ImageType=["ORIGINAL", "PRIMARY", "P"]), node.port
        )
        send(series(tmp_path / "scout", "1.2.3.8", SeriesDescription="Localizer"), node.port)
        send(series(tmp_path / "t2", "1.2.3.9", EchoTime=100, RepetitionTime=4000), node.port)
        send(good, node.port)
        finished(node, "ignored", 2)
        finished(node, "refused", 2)
        finished(node, "processed")
        reasons = [f.read_text() for f in sorted(node.queue.glob("series/*/refused.txt"))]
        assert any("gap" in reason for reason in reasons)
        assert any("series/2/" in reason and "phase" in reason for reason in reasons)
        log = node.log.read_text()
        assert "refused, 4 instances: Slices 2 and 3" in log
        assert "a rule says to skip it" in log
        assert "no rule fits it" in log
        # The missing slice arrives after all: the series is tried again, and now it is whole.
        before = node.metric('mrlift_node_finished_series_total{outcome="processed"}')
        send([gap[2]], node.port)
        finished(node, "processed", before + 1)
        assert len([d for d in received(folder) if "1.2.3.5" in str(d.SourceImageSequence)]) == 5
        assert len(list(node.queue.glob("series/1/refused.txt"))) == 0


def test_results_wait_for_a_destination_that_is_away(tmp_path, archive):
    """One destination is down, the other is served at once; after a restart it goes on."""
    folder, port = archive
    away = free_port()
    with Node(tmp_path, {"away": away, "copy": port}) as node:
        send(series(tmp_path / "in"), node.port)
        wait_until(lambda: len(list(folder.iterdir())) == 3, 30, "the first destination")
        failures = 'mrlift_node_send_failures_total{destination="away"}'
        wait_until(lambda: node.metric(failures) >= 2, 30, "two attempts")
        assert node.metric('mrlift_node_unsent_series{destination="away"}') == 1
        assert node.stop() == 0
        with storescp(tmp_path / "late", away, "+xi"):  # implicit VR only, as in PS3.5 10.1
            node.start()
            wait_until(node.idle, 30, "the second destination")
            node.stop()
    first, second = received(folder), received(tmp_path / "late")
    assert [d.SOPInstanceUID for d in first] == [d.SOPInstanceUID for d in second]
    assert second[0].file_meta.TransferSyntaxUID == pydicom.uid.ImplicitVRLittleEndian
    assert "next try in" in node.log.read_text()


def test_a_full_disk_is_said_and_never_a_false_success(tmp_path, archive):
    _, port = archive
    files = series(tmp_path / "in")
    node = Node(tmp_path, {"copy": port})
    text = (tmp_path / "node.toml").read_text()
    (tmp_path / "node.toml").write_text(text.replace("reserve_mb = 1", "reserve_mb = 1e9"))
    with node:
        command = ["storescu", "-v", "-R", "-aec", "MRLIFT", "127.0.0.1", str(node.port)]
        done = subprocess.run([*command, files[0]], capture_output=True, text=True, check=False)
        assert "OutOfResources" in done.stdout + done.stderr
        assert node.metric('mrlift_node_instances_total{outcome="no_room"}') == 1
        assert node.get("/health") == (503, "the disk of the queue is full\n")
        assert node.metric('mrlift_node_series{state="receiving"}') == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system of its own")
def test_a_disk_that_fills_up_loses_nothing(tmp_path, archive):
    """A tmpfs of 2 MB as the queue: refused when it is full, taken when there is room again."""
    folder, port = archive
    (tmp_path / "queue").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(tmp_path / "queue")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount")
    try:
        node = Node(tmp_path, {"copy": port})
        text = (tmp_path / "node.toml").read_text()
        (tmp_path / "node.toml").write_text(text.replace("reserve_mb = 1\n", "reserve_mb = 0\n"))
        with node:
            filler = tmp_path / "queue" / "filler"
            room = shutil.disk_usage(tmp_path / "queue").free
            filler.write_bytes(b"0" * (room - 150_000))
            files = write_series(tmp_path / "in", head((160, 160, 4)), SeriesDescription="t1")
            accepted = send(files, node.port)
            assert len(accepted) < 4
            filler.unlink()
            assert send([f for f in files if f not in accepted], node.port)
            finished(node, "processed")
            node.stop()
        assert len(received(folder)) == 4
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "queue")], check=True)


@pytest.mark.parametrize("syntax", ["JPEGLSLossless", "JPEG2000Lossless", "RLELossless"])
def test_compressed_instances_are_stored_as_they_come(tmp_path, archive, syntax):
    option = {"JPEGLSLossless": "-xt", "JPEG2000Lossless": "-xv", "RLELossless": "-xr"}[syntax]
    folder, port = archive
    files = write_series(tmp_path / "in", head((72, 64, 3)))
    for file in files:
        data = pydicom.dcmread(file)
        data.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False)
        data.save_as(file)
    with Node(tmp_path, {"copy": port}) as node:
        assert len(send(files, node.port, option)) == 3
        finished(node, "processed")
    assert len(received(folder)) == 3


def test_the_node_receives_and_stops_while_it_works(tmp_path, archive):
    """Large slices keep no peer waiting; SIGTERM leaves them to the next start."""
    _, port = archive
    files = write_series(tmp_path / "in", head((128, 128, 60)), SeriesDescription="t1")
    with Node(tmp_path, {"copy": port}, model="mrl-x2-bicubic") as node:
        send(files, node.port)
        wait_until(lambda: list((node.queue / "work").iterdir()), 30, "the work")
        began = time.monotonic()
        assert len(send(series(tmp_path / "other", "1.2.3.5"), node.port)) == 3
        assert time.monotonic() - began < 5
        assert node.get("/health") == (200, "ok\n")
        assert node.metric('mrlift_node_series{state="receiving"}') == 2
        assert node.stop() == 0
        assert not list((node.queue / "work").iterdir())
        assert not list((node.queue / "results").iterdir())
        assert "Traceback" not in node.log.read_text()
        node.start()
        assert node.metric('mrlift_node_series{state="receiving"}') >= 1


def mistakes(folder, **changes):
    text = (folder / "node.toml").read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "bad.toml").write_text(text)
    command = [sys.executable, "-m", "mrlift", "node", "--config", folder / "bad.toml"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_keeps_it_from_starting_is_said(tmp_path):
    with Node(tmp_path, {"copy": free_port()}) as node:
        again = mistakes(tmp_path)
        assert again.returncode == 3
        assert "Another node uses the queue" in again.stderr
        taken = mistakes(tmp_path, **{str(node.queue): str(tmp_path / "other")})
        assert taken.returncode == 3
        assert f"port {node.metrics_port}" in taken.stderr
        other = {str(node.queue): str(tmp_path / "other"), str(node.metrics_port): "0"}
        taken = mistakes(tmp_path, **other)
        assert taken.returncode == 3
        assert f"port {node.port}" in taken.stderr
    assert mistakes(tmp_path, **{"mrl-tiny-x2-bicubic": "none"}).returncode == 4
    assert mistakes(tmp_path, quiet="quite").returncode == 5


@pytest.mark.skipif(not ORTHANC, reason="needs Debian's orthanc")
def test_orthanc_shows_the_result_as_a_new_series_of_the_same_study(tmp_path):
    node_port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", node_port)
    with orthanc.serving():
        node = Node(tmp_path, {"orthanc": orthanc.port}, ports=(node_port, free_port()))
        with node:
            for file in series(tmp_path / "in"):
                orthanc.ask("/instances", file.read_bytes())
            (study,) = orthanc.ask("/studies")
            assert orthanc.ask("/modalities/node/echo", {}) is not None
            orthanc.ask("/modalities/node/store", {"Resources": [study]})
            finished(node, "processed")
        found = orthanc.ask(f"/studies/{study}/series")
        names = sorted(s["MainDicomTags"]["SeriesDescription"] for s in found)
        assert names == ["t1 phantom", "t1 phantom mrlift x2 RESEARCH"]
        assert [len(s["Instances"]) for s in found] == [3, 3]
        assert len(orthanc.ask("/patients")) == len(orthanc.ask("/studies")) == 1
