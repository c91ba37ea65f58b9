"""Uploads and jobs over a real server: what is done, refused, cancelled and cleaned up."""

import io
import threading
import time
import zipfile

import numpy as np
import pytest
from phantoms import head, write_series

pytest.importorskip("starlette", reason="needs the view extra")
from serving import TINY, Page, eventually, kept, nifti, serving, slow_model

import mrlift


@pytest.fixture
def server():
    with serving(limit=2_000_000) as running:
        yield running


def files_of(folder):
    return {f"{folder.name}/{p.name}": p.read_bytes() for p in folder.iterdir()}


def test_a_nifti_file_is_upscaled_and_downloaded(server, tmp_path):
    with Page(server) as page:
        answer = page.send({"t1.nii.gz": nifti(tmp_path)}, "t1.nii.gz").json()
        assert answer["facts"]["images"]["lr"]["shape"] == [40, 48, 6]
        assert page.post("/job", case=answer["case"], work="upscale", model=TINY).status_code == 202
        kind, facts, steps = page.end_of_job()
        assert kind == "done"
        assert steps == [(done, 6) for done in range(1, 7)]
        assert facts["facts"]["result"]["model"] == TINY
        got = page.http.get(f"{page.api}/cases/{answer['case']}/result")
        assert 'filename="t1_x2.nii.gz"' in got.headers["content-disposition"]
    sr = mrlift.upscale(mrlift.load(tmp_path / "phantom.nii.gz"), model=TINY)
    mrlift.save(sr, tmp_path / "wanted.nii.gz")
    assert got.content == (tmp_path / "wanted.nii.gz").read_bytes()


def test_a_dicom_folder_becomes_a_derived_series(server, tmp_path):
    write_series(tmp_path / "head", head((24, 20, 3)))
    (tmp_path / "head" / "readme.txt").write_text("passed over")
    with Page(server) as page:
        answer = page.send(files_of(tmp_path / "head"), "head").json()
        assert answer["facts"]["format"] == "DICOM"
        page.post("/job", case=answer["case"], work="upscale", model=TINY)
        assert page.end_of_job()[0] == "done"
        got = page.http.get(f"{page.api}/cases/{answer['case']}/result").content
    with zipfile.ZipFile(io.BytesIO(got)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"head_x2/0000{n}.dcm" for n in (1, 2, 3)]
        archive.extractall(tmp_path)
    sr = mrlift.upscale(mrlift.load(tmp_path / "head"), model=TINY)
    derived = mrlift.load(tmp_path / "head_x2")
    np.testing.assert_array_equal(derived.voxels, sr.voxels)
    np.testing.assert_allclose(derived.affine, sr.affine, atol=1e-4)


def test_one_of_several_series_is_chosen(server, tmp_path):
    write_series(tmp_path / "d" / "a", head((24, 20, 3)), series="1.2.3.4")
    write_series(tmp_path / "d" / "b", head((16, 12, 2)), series="1.2.3.5")
    files = {
        f"d/{s}/{p.name}": p.read_bytes() for s in "ab" for p in (tmp_path / "d" / s).iterdir()
    }
    with Page(server) as page:
        found = page.send(files, "d").json()["series"]
        assert [(s["uid"], s["instances"]) for s in found] == [("1.2.3.4", 3), ("1.2.3.5", 2)]
        answer = page.post("/upload/done", series="1.2.3.5").json()
        assert answer["facts"]["images"]["lr"]["shape"] == [16, 12, 2]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.nii",
        "/etc/evil.nii",
        "a/../../evil.nii",
        "..\\evil.nii",
        "C:evil.nii",
        "a\0.nii",
        "",
    ],
)
def test_names_that_climb_out_are_refused(server, name):
    with Page(server) as page:
        before = set(server.folder.parent.iterdir())
        answer = page.send({name: b"x"}, "a.nii")
        assert answer.status_code == 422
        assert "within the chosen folder" in answer.json()["error"]
        assert not [p for p in server.folder.rglob("*") if p.is_file()]
        assert {p for p in server.folder.parent.iterdir() if "evil" in p.name} <= before
        assert page.send({"a.nii": b"x"}, name).status_code == 422


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.txt", b"no image at all", "expected a NIfTI file or a folder with DICOM"),
        ("t1.nii.gz", b"\x1f\x8b broken", "cannot be read as NIfTI"),
        ("t1.nii", b"", "cannot be read as NIfTI"),
        ("picture.png", b"\x89PNG\r\n\x1a\n" + b"0" * 400, "expected a NIfTI file"),
        ("cut.dcm", b"\0" * 128 + b"DICM", "damaged"),
    ],
)
def test_wrong_kinds_are_refused_in_the_users_words(server, name, content, words):
    with Page(server) as page:
        answer = page.send({name: content}, name)
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert words in error
        assert name in error
        assert str(server.folder) not in error
        assert not [p for p in server.folder.rglob("*") if p.is_file()]


def test_several_nifti_files_are_refused(server):
    with Page(server) as page:
        answer = page.send({"d/a.nii": b"x", "d/b.nii": b"x"}, "d")
        assert "2 files of which 2 are NIfTI" in answer.json()["error"]


def test_more_than_the_limit_is_refused(server):
    with Page(server) as page:
        assert page.send({"a.nii": b"x"}, "a.nii", claimed=2_000_001).status_code == 413
        answer = page.send({"a.nii": b"0" * 2_000_001}, "a.nii", claimed=5)
        assert answer.status_code == 413
        assert "--max-upload" in answer.json()["error"]
        answer = page.send({"a": b"0" * 1_500_000, "b": b"0" * 500_001}, "d", claimed=5)
        assert answer.status_code == 413
        assert not [p for p in server.folder.rglob("*") if p.is_file()]


def test_two_uploads_at_once(server, tmp_path):
    content = nifti(tmp_path)
    with Page(server) as page, Page(server) as other:
        assert page.post("/upload", name="a.nii.gz", bytes=5).status_code == 201
        for second in (page, other):
            answer = second.send({"a.nii.gz": content}, "a.nii.gz")
            assert answer.status_code == 409
            assert "Another upload" in answer.json()["error"]
        page.http.delete(f"{page.api}/upload")
        assert other.send({"a.nii.gz": content}, "a.nii.gz").status_code == 201


def test_two_jobs_at_once_and_a_cancelled_one(server, tmp_path, monkeypatch):
    slow_model(monkeypatch)
    content = nifti(tmp_path, (40, 48, 50))
    with Page(server) as page, Page(server) as other:
        for tab in (page, other):
            tab.send({"a.nii.gz": content}, "a.nii.gz")
        assert page.post("/job", case="1", work="upscale", model=TINY).status_code == 202
        answer = other.post("/job", case="1", work="upscale", model=TINY)
        assert answer.status_code == 409
        assert "Wait for it or cancel it" in answer.json()["error"]
        page.http.delete(f"{page.api}/job")
        kind, _, steps = page.end_of_job()
        assert kind == "cancelled"
        assert len(steps) < 50
        assert page.http.get(f"{page.api}/cases/1/result").status_code == 422
        assert other.post("/job", case="1", work="upscale", model=TINY).status_code == 202


def test_a_closed_tab_cancels_its_work_and_leaves_no_file(server, tmp_path, monkeypatch):
    slow_model(monkeypatch)
    content = nifti(tmp_path, (40, 48, 200))  # 40 s of work
    with Page(server) as other:
        before = kept(server)
        with Page(server) as page:
            page.send({"a.nii.gz": content}, "a.nii.gz")
            page.post("/job", case="1", work="upscale", model=TINY)
            next(page.events())
            assert kept(server) != before
        eventually(lambda: kept(server) == before)
        assert "mrlift-view-job" not in {thread.name for thread in threading.enumerate()}
        assert page.opened["tab"] != other.opened["tab"]
        assert other.send({"a.nii.gz": content}, "a.nii.gz").status_code == 201


def test_a_closed_tab_ends_its_upload(server, tmp_path):
    with Page(server) as page:
        page.post("/upload", name="a.nii.gz", bytes=5)
        page.http.put(f"{page.api}/upload", params={"name": "a.nii.gz"}, content=b"hello")
        assert [p for p in server.folder.rglob("*") if p.is_file()]
    eventually(lambda: kept(server) == [])
    with Page(server) as page:
        assert page.send({"a.nii.gz": nifti(tmp_path)}, "a.nii.gz").status_code == 201


def test_a_tab_that_never_connects_is_removed(server):
    Page(server).http.close()
    assert kept(server)
    eventually(lambda: kept(server) == [])


def test_a_connection_that_comes_back_in_time_keeps_the_tab():
    with serving(grace=5.0) as server, Page(server) as page:
        page._stream.__exit__(None, None, None)
        time.sleep(0.2)
        with page:
            time.sleep(0.2)
            assert kept(server)


def test_the_end_of_the_server_cancels_its_work(tmp_path, monkeypatch):
    slow_model(monkeypatch)
    content = nifti(tmp_path, (40, 48, 200))
    with serving() as server, Page(server) as page:
        page.send({"a.nii.gz": content}, "a.nii.gz")
        page.post("/job", case="1", work="upscale", model=TINY)
        next(page.events())
        began = time.monotonic()
        server.stop()
        eventually(lambda: not server.folder.exists())
        assert time.monotonic() - began < 5


def test_a_failed_job_says_why(server, tmp_path, monkeypatch, caplog):
    def broken(*_, **__):
        raise ValueError("Phantom^Anna")

    with Page(server) as page:
        page.send({"a.nii.gz": nifti(tmp_path)}, "a.nii.gz")
        monkeypatch.setattr("mrlift.viewer.app.upscale", broken)
        page.post("/job", case="1", work="upscale", model=TINY)
        kind, facts, _ = page.end_of_job()
        assert (kind, facts["error"]) == ("failed", "A fault of mrlift: ValueError.")
        assert "Anna" not in caplog.text
        page.post("/job", case="1", work="spread", model=TINY)
        kind, facts, _ = page.end_of_job()
        assert "Upscale the series first" in facts["error"]


@pytest.mark.parametrize(
    ("work", "model"), [("upscale", "/etc/passwd"), ("upscale", "none.onnx"), ("delete", TINY)]
)
def test_only_offered_work_and_weights(server, tmp_path, work, model):
    with Page(server) as page:
        page.send({"a.nii.gz": nifti(tmp_path)}, "a.nii.gz")
        answer = page.post("/job", case="1", work=work, model=model)
        assert answer.status_code == 422
        assert page.post("/job", case="9", work="upscale", model=TINY).status_code == 422
