"""Runs on a real Dask cluster of two processes, shared by this file."""

import gzip
import os
import shutil
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from phantoms import head, head_volume, write_series

pytest.importorskip("distributed", reason="needs the archive extra")

import mrlift
from mrlift.archive import run as run_module
from mrlift.archive.cluster import connect
from mrlift.archive.ledger import Ledger, ledger_file
from mrlift.archive.series import digest
from mrlift.archive.session import Session, settings_for
from mrlift.archive.task import Limits
from mrlift.errors import ConfigError, OutputError
from mrlift.io.facts import Selection

POISON = "poison:perform"


@pytest.fixture(scope="module")
def client():
    # The process beside a worker finds the tests' own functions by this.
    here = str(Path(__file__).parent)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (here, before)))
    with connect(None, 2, port=0) as client:
        yield client
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def tree(tmp_path):
    """Three NIfTI files, a folder with two DICOM series, a third in its subfolder, and CT."""
    source = tmp_path / "source"
    (source / "a" / "b").mkdir(parents=True)
    for k, name in enumerate(("one.nii", "a/two.nii.gz", "a/b/three.nii.gz")):
        mrlift.save(head_volume((24, 20, 3), seed=k), source / name)
    write_series(source / "d", series="1.2.3.4")
    write_series(source / "d", series="1.2.3.5", order=[10, 11, 12, 13])
    write_series(source / "d" / "sub", series="1.2.3.6")
    write_series(source / "ct", series="1.2.3.7", Modality="CT")
    (source / "notes.txt").write_text("no image\n")
    return source


@pytest.fixture
def start(client, tree, tmp_path, tiny_weights, monkeypatch):
    """Run over the tree; the counts, and the ledger's rows by path and UID."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")

    def run(dest="dest", *, source=tree, limits=None, retry=None, target=POISON, **options):
        selection = options.pop("selection", Selection())
        options = {"model": str(tiny_weights), "engine": "onnx"} | options
        settings = settings_for(source, tmp_path / dest, **options)
        with Session(settings, None, selection, limits or Limits(60.0)) as session:
            counts = session.run(client, retry=retry, target=target)
            session.summarise()
            rows = {(r.path, r.uid, r.part): r for r in session.ledger.every()}
        return counts, rows

    return run


def files_of(folder):
    """Contents by relative path, without the ledger and the summary."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and ".mrlift" not in p.parts and p.name != "summary.html"
    }


def test_every_series_is_done_as_by_upscale_and_the_tree_is_mirrored(start, tree, tmp_path):
    counts, rows = start()
    assert counts == Counter(done=6, skipped=1)
    made = {name.rpartition("/")[0] if name.endswith(".dcm") else name
            for name in files_of(tmp_path / "dest")}  # fmt: skip
    assert made == {
        "one.nii", "a/two.nii.gz", "a/b/three.nii.gz", "d/1.2.3.4", "d/1.2.3.5", "d/sub/1.2.3.6"
    }  # fmt: skip
    row = rows["a/two.nii.gz", "", 0]
    sr = mrlift.load(tmp_path / "dest/a/two.nii.gz")
    assert sr.voxels.shape == (48, 40, 3)
    assert (row.slices, row.card, row.version) == (3, "tiny", mrlift.__version__)
    assert row.compute_s > 0
    assert (rows["ct", "1.2.3.7", 0].status, rows["ct", "1.2.3.7", 0].error) == (
        "skipped", "modality CT"
    )  # fmt: skip
    for row in rows.values():
        if row.status == "done":
            output = tmp_path / "dest" / row.output
            assert row.output_digest == digest(
                sorted(output.iterdir()) if output.is_dir() else [output]
            )
    derived = pydicom.dcmread(tmp_path / "dest/d/sub/1.2.3.6/00001.dcm")
    assert derived.InstanceCreationDate == "20231114"  # of SOURCE_DATE_EPOCH
    assert not list((tmp_path / "dest/.mrlift").glob("work*"))


def test_two_runs_of_the_same_give_the_same_bytes(start, tmp_path):
    start("first")
    start("second")
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")


def test_running_again_does_what_is_missing_or_changed_only(start, tree, tmp_path):
    start()
    before = files_of(tmp_path / "dest")
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "dest").rglob("*") if p.is_file()}
    counts, _ = start()
    assert (counts["done"], counts["kept"]) == (0, 6)

    (tmp_path / "dest/one.nii").unlink()
    (tmp_path / "dest/d/1.2.3.5/00001.dcm").unlink()
    (tmp_path / "dest/d/sub/1.2.3.6/00001.dcm").write_bytes(b"altered")
    os.utime(tree / "a/two.nii.gz")  # another time, the same content
    os.utime(tree / "d/000.dcm")
    mrlift.save(head_volume((24, 20, 3), seed=9), tree / "a/b/three.nii.gz", overwrite=True)
    counts, rows = start()
    assert (counts["done"], counts["kept"]) == (4, 2)
    after = files_of(tmp_path / "dest")
    assert {n for n in before if before[n] != after[n]} == {"a/b/three.nii.gz"}
    untouched = tmp_path / "dest/a/two.nii.gz"
    assert untouched.stat().st_mtime_ns == stamps[untouched]
    assert rows["a/two.nii.gz", "", 0].status == "done"
    assert start()[0]["kept"] == 6


def test_poisoned_inputs_are_tried_twice_and_set_aside_and_the_rest_goes_on(start, tree, tmp_path):
    for name in ("crash", "hang", "hungry", "exit"):
        shutil.copy(tree / "one.nii", tree / f"{name}.nii")
    counts, rows = start(limits=Limits(timeout=5.0, memory=400_000_000))
    assert counts == Counter(done=6, skipped=1, quarantined=4)
    bad = {p: r for (p, _, _), r in rows.items() if r.status == "quarantined"}
    assert {p: r.error for p, r in bad.items()} == {
        "crash.nii": "crash", "exit.nii": "crash", "hang.nii": "timeout", "hungry.nii": "memory"
    }  # fmt: skip
    assert {r.attempts for r in bad.values()} == {2}
    tries = [line.split() for line in (tmp_path / "tries").read_text().splitlines()]
    for name in bad:  # ... each time on another worker
        assert len({worker for tried, worker in tries if tried == name}) == 2
    assert "SIGABRT" in bad["crash.nii"].reason
    assert "exit code 3" in bad["exit.nii"].reason
    assert "5 s" in bad["hang.nii"].reason
    assert "0.40 GB" in bad["hungry.nii"].reason
    assert start()[0]["kept"] == 10  # they are not tried again by themselves ...
    counts, rows = start(retry="crash", target="mrlift.archive.series:perform")
    assert counts == Counter(done=2)  # ... but by `retry`, here as if the cause had been mended
    assert rows["hang.nii", "", 0].status == "quarantined"
    assert files_of(tmp_path / "dest")["crash.nii"] == files_of(tmp_path / "dest")["one.nii"]


def test_bad_files_are_listed_with_their_reason(start, tree, tmp_path):
    (tree / "empty.nii.gz").write_bytes(b"")
    (tree / "short.nii.gz").write_bytes(
        gzip.compress(gzip.decompress((tree / "a/two.nii.gz").read_bytes())[:900])
    )
    (tree / "gone.nii").symlink_to(tree / "nowhere.nii")
    write_series(tree / "gap", head((24, 20, 5)), series="1.2.3.8")[2].unlink()
    write_series(tree / "cut", series="1.2.3.9")[1].write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 9)
    (tree / "d/damaged.dcm").write_bytes(b"no DICOM")
    counts, rows = start()
    assert counts == Counter(done=6, skipped=1, failed=6)
    reasons = {(p, u): (r.error, r.reason) for (p, u, _), r in rows.items() if r.status == "failed"}
    for key, error, words in (
        (("empty.nii.gz", ""), "InputError", "empty.nii.gz"),
        (("short.nii.gz", ""), "InputError", "short.nii.gz"),
        (("gone.nii", ""), "InputError", "may not be read"),
        (("gap", "1.2.3.8"), "GeometryError", "gap"),
        (("cut", "1.2.3.9"), "InputError", "001.dcm"),  # the only series there: a slice of it
        (("d", "damaged.dcm"), "InputError", "damaged.dcm"),  # of which of the two is not known
    ):
        assert reasons[key][0] == error, key
        assert words in reasons[key][1]
    page = (tmp_path / "dest/summary.html").read_text()
    assert all(path in page for path, _ in reasons)
    assert "http" not in page.replace("http-equiv", "")  # needs nothing from elsewhere

    (tree / "d/damaged.dcm").unlink()
    assert ("d", "damaged.dcm", 0) not in start()[1]


def test_a_series_of_two_contrasts_gives_two_outputs(start, tmp_path):
    source = tmp_path / "echoes"
    voxels = head((24, 20, 4))
    write_series(source / "s", voxels, series="1.2.3", EchoTime=10)
    for k, file in enumerate(
        write_series(source / "t", voxels, series="1.2.3", EchoTime=80, InstanceNumber=9)
    ):
        data = pydicom.dcmread(file)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.9.{k}"
        data.save_as(source / "s" / f"second{k}.dcm")
    shutil.rmtree(source / "t")
    counts, rows = start("two", source=source, nifti=True)
    assert counts == Counter(done=2), rows
    assert sorted(files_of(tmp_path / "two")) == ["s/1.2.3_1.nii.gz", "s/1.2.3_2.nii.gz"]
    assert start("two", source=source, nifti=True)[0] == Counter(kept=2)


def test_selection_and_own_results(start, tree, tmp_path):
    _, rows = start(selection=Selection(description=("t*.nii.gz",)))
    assert {p for (p, _, _), r in rows.items() if r.status == "done"} == {
        "a/two.nii.gz", "a/b/three.nii.gz"
    }  # fmt: skip
    assert rows["one.nii", "", 0].error == "not selected"
    assert start()[0]["done"] == 4  # a wider selection later takes the rest
    again, rows = start("again", source=tmp_path / "dest")
    assert again["skipped"] == len(rows) == 6
    assert {r.error for r in rows.values()} == {"made by mrlift"}


def test_what_is_not_ours_is_never_replaced(start, tree, tmp_path):
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest/one.nii").write_text("precious")
    for _ in range(2):
        _, rows = start(retry=None)
        assert rows["one.nii", "", 0].error == "OutputError"
    start(retry="")
    assert (tmp_path / "dest/one.nii").read_text() == "precious"


def test_an_archive_keeps_its_settings(start, tree, tmp_path, monkeypatch):
    start()
    with pytest.raises(ConfigError, match="begun with nifti False, now it is True"):
        start(nifti=True)
    with pytest.raises(ConfigError, match="begun with engine 'onnx', now it is 'ncnn'"):
        start(engine="ncnn")
    monkeypatch.setattr("mrlift.archive.session.choose", None)  # one that has been chosen holds
    assert start(engine=None)[0]["kept"] == 6
    with pytest.raises(OutputError, match="within each other"):
        start(source=tmp_path / "dest", dest="dest/inside")
    held = Ledger(ledger_file(tmp_path / "dest"), write=True)
    with pytest.raises(OutputError, match="Another run"):
        start()
    held.close()


def test_workers_die_of_outside_causes_without_harm(client, start, tree, tmp_path):
    """SIGKILL of every worker while series are with them."""
    start("calm")
    for k in range(20):
        mrlift.save(head_volume((24, 20, 3), seed=k), tree / f"x{k}.nii.gz")
    start("calm")
    killed = []

    def kill():
        while len(killed) < 3:
            time.sleep(0.4)
            # A worker that died a moment ago may still be known, and cannot be asked.
            for pid in client.run(os.getpid, on_error="ignore").values():
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)
                    killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    counts, _ = start("wild")
    thread.join()
    assert counts == Counter(done=26, skipped=1)
    assert files_of(tmp_path / "wild") == files_of(tmp_path / "calm")
    assert len(killed) >= 3


def test_the_ledger_can_be_read_at_any_time(start, tmp_path):
    start()
    found = Ledger(ledger_file(tmp_path / "dest"))
    assert found.counts() == {"done": 6, "skipped": 1}
    pace = found.pace()
    assert pace.ended
    assert pace.finished == 6
    assert pace.left is None
    assert np.isclose(pace.share, 1.0)


def test_the_pace_tells_what_is_left(tmp_path):
    with closing(Ledger(tmp_path / "ledger.sqlite", write=True)) as ledger:
        number = ledger.start_run()
        time.sleep(0.1)
        ledger.tick(number, cores=2, finished=10, visited=20, expected=80)
        pace = ledger.pace()
        assert not pace.ended
        assert pace.left == pytest.approx(3 * pace.seconds)
        assert pace.per_hour == pytest.approx(36000 / pace.seconds)
        ledger.tick(number, cores=2, finished=10, visited=20, expected=None)
        assert ledger.pace().left is None  # the walk that counts goes on


def _notes(dask_scheduler):
    spans = dask_scheduler.extensions["spans"].spans.values()
    return sum(len(span._metadata["collections"]) for span in spans if span._metadata)


def test_the_scheduler_remembers_no_more_of_many_tasks_than_of_few(
    client, start, tmp_path, monkeypatch
):
    """Neither their names, of which Dask keeps 100,000, nor a note on each."""
    monkeypatch.setattr(run_module, "RESTED", 10)
    submit, calls = client.map, []
    monkeypatch.setattr(
        client, "map", lambda *args, key, **kw: calls.append(key) or submit(*args, key=key, **kw)
    )
    source = tmp_path / "many"
    source.mkdir()
    for number in range(300):
        (source / f"{number:03d}.nii").touch()
    before = client.run_on_scheduler(_notes)
    counts, _ = start("many-out", source=source, target="poison:trivial")
    assert counts == {"done": 300}
    names = [name for call in calls for name in call]
    assert len(names) == 300
    assert len(calls) < 100  # a call costs about as much as a task
    assert len(set(names)) <= run_module.LEAST + 10 + 1
    assert client.run_on_scheduler(_notes) <= before + 10


def test_what_changed_does_not_wait_for_what_did_not(start, tmp_path, monkeypatch):
    """With one changed series in ten, each is handed over before the next ten are looked at."""
    source = tmp_path / "many"
    source.mkdir()
    files = [source / f"{number:03d}.nii" for number in range(100)]
    for file in files:
        file.touch()
    assert start("many-out", source=source, target="poison:trivial")[0] == {"done": 100}
    for file in files[::10]:
        file.write_bytes(b"changed")
    visit, submit, waited = run_module.Run._visit, run_module.Run._submit, []

    def slowly(run, place):
        time.sleep(0.04)  # ten of them are longer than a task
        visit(run, place)

    def noted(run, flights, avoid=""):
        waited.extend(run._visited - 1 - int(f.task.path.removesuffix(".nii")) for f in flights)
        submit(run, flights, avoid)

    monkeypatch.setattr(run_module.Run, "_visit", slowly)
    monkeypatch.setattr(run_module.Run, "_submit", noted)
    counts, _ = start("many-out", source=source, target="poison:trivial")
    assert counts == {"done": 10, "kept": 90}
    assert len(waited) == 10
    assert max(waited) < 10
