"""Bad input: a clear message, an exit code, nothing half-written, no traceback."""

import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest
from phantoms import head, head_volume, write_series
from test_commands import run

import mrlift
from mrlift.cli import _interrupt


def good_nifti(folder):
    mrlift.save(head_volume((40, 48, 3)), folder / "a.nii.gz")
    return folder / "a.nii.gz"


def missing(folder):
    return folder / "none.nii.gz"


def missing_folder(folder):
    return folder / "none"


def empty_folder(folder):
    (folder / "in").mkdir()
    return folder / "in"


def not_an_image(folder):
    (folder / "a.nii").write_text("hello")
    return folder / "a.nii"


def not_dicom(folder):
    (folder / "a.txt").write_text("hello")
    return folder / "a.txt"


def truncated_nifti(folder):
    mrlift.save(head_volume((40, 48, 3)), folder / "a.nii")
    content = (folder / "a.nii").read_bytes()
    (folder / "a.nii").write_bytes(content[: len(content) // 2])
    return folder / "a.nii"


def truncated_gzip(folder):
    file = good_nifti(folder)
    file.write_bytes(file.read_bytes()[:-200])
    return file


def truncated_dicom(folder):
    files = write_series(folder / "in")
    files[2].write_bytes(files[2].read_bytes()[:-100])
    return folder / "in"


def dicom_cut_in_its_header(folder):
    files = write_series(folder / "in")
    files[2].write_bytes(files[2].read_bytes()[:700])
    return folder / "in"


def colour_dicom(folder):
    write_series(folder / "in", SamplesPerPixel=3, PhotometricInterpretation="RGB")
    return folder / "in"


def colour_nifti(folder):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.Nifti1Image(np.zeros((4, 4, 2), kind), np.eye(4)).to_filename(folder / "a.nii")
    return folder / "a.nii"


def ct(folder):
    write_series(folder / "in", Modality="CT")
    return folder / "in"


def two_series(folder):
    write_series(folder / "in" / "a", series="1.2.3.4")
    write_series(folder / "in" / "b", series="1.2.3.5")
    return folder / "in"


def slice_missing(folder):
    write_series(folder / "in", head((8, 8, 7)))[3].unlink()
    return folder / "in"


def duplicate_positions(folder):
    write_series(folder / "in", ImagePositionPatient=lambda k: [0, 0, float(k // 2)])
    return folder / "in"


def nan_voxels(folder):
    voxels = head((8, 8, 2)).astype(np.float32)
    voxels[3, 3, 0] = np.nan
    nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(folder / "a.nii")
    return folder / "a.nii"


def flat_nifti(folder):
    nibabel.Nifti1Image(np.zeros((8, 8), np.int16), np.eye(4)).to_filename(folder / "a.nii")
    return folder / "a.nii"


CASES = {
    missing: "does not exist",
    missing_folder: "does not exist",
    empty_folder: "an empty folder",
    not_an_image: "cannot be read as NIfTI",
    not_dicom: r"1 file\(s\) of other kinds",
    truncated_nifti: "damaged or truncated",
    truncated_gzip: "damaged or truncated",
    truncated_dicom: r"002\.dcm.*truncated or damaged",
    dicom_cut_in_its_header: r"002\.dcm",
    colour_dicom: "colour image",
    colour_nifti: "real numbers",
    ct: "found modality CT",
    two_series: r"(?s)holds 2 series.*--series UID.*1\.2\.3\.4.*1\.2\.3\.5",
    slice_missing: "has a gap",
    duplicate_positions: "only 2 positions",
    nan_voxels: "1 that are NaN or infinite",
    flat_nifti: "3-D or 4-D",
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_bad_input(tmp_path, make):
    source = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    suffix = ".nii.gz" if ".nii" in source.name else ""
    done = run("upscale", source, "-o", tmp_path / f"out{suffix}")
    assert done.returncode == 2, done.stderr
    message = " ".join(done.stderr.split())
    assert re.search(CASES[make], message), message
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_scale_without_weights(tmp_path):
    done = run("upscale", good_nifti(tmp_path), "-o", tmp_path / "b.nii", "--scale", "5")
    assert done.returncode == 4
    assert "No weights for scale 5" in done.stderr


def test_unknown_model(tmp_path):
    done = run("upscale", good_nifti(tmp_path), "-o", tmp_path / "b.nii", "--model", "x")
    assert done.returncode == 4


def test_nifti_cannot_become_dicom(tmp_path):
    done = run("upscale", good_nifti(tmp_path), "-o", tmp_path / "out")
    assert done.returncode == 3
    assert "can only be derived from a DICOM series" in done.stderr


def test_wrong_usage_is_2(tmp_path):
    assert run("upscale", good_nifti(tmp_path)).returncode == 2
    assert run("nonsense").returncode == 2


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_output_exists(tmp_path, kind):
    source, out = good_nifti(tmp_path), tmp_path / "out.nii"
    out.mkdir() if kind == "folder" else out.write_text("mine")
    done = run("upscale", source, "-o", out)
    assert done.returncode == 3
    assert "--overwrite" in done.stderr
    assert out.is_dir() or out.read_text() == "mine"


@pytest.mark.parametrize("place", ["in", ".", "in/out"])
def test_output_and_input_are_kept_apart(tmp_path, place):
    """What lies around the input, or is the input, is never replaced."""
    write_series(tmp_path / "keep" / "in")
    (tmp_path / "keep" / "thesis.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "keep" / place
    done = run("upscale", tmp_path / "keep" / "in", "-o", out, "--overwrite")
    assert done.returncode == 3
    assert "within each other" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["out.mha", "out.nrrd", "x" * 300 + ".nii"])
def test_names_that_cannot_be_written(tmp_path, name):
    done = run("upscale", good_nifti(tmp_path), "-o", tmp_path / name)
    assert done.returncode == 3


def test_several_slices_into_one_file_are_refused_before_the_work(tmp_path):
    write_series(tmp_path / "in")
    done = run("upscale", tmp_path / "in", "-o", tmp_path / "out.dcm")
    assert done.returncode == 3
    assert "4 slices" in done.stderr
    assert "0/4" not in done.stderr


@pytest.mark.parametrize("make", [missing, truncated_dicom, nan_voxels], ids=lambda m: m.__name__)
def test_bad_input_to_the_other_commands(tmp_path, make):
    source = make(tmp_path)
    suffix = ".nii" if ".nii" in source.name else ""
    assert run("degrade", source, "-o", tmp_path / f"o{suffix}").returncode == 2
    assert run("evaluate", source, source).returncode == 2
    assert run("info", source).returncode == (0 if make is truncated_dicom else 2)


def test_output_folder_missing(tmp_path):
    done = run("upscale", good_nifti(tmp_path), "-o", tmp_path / "no" / "out.nii")
    assert done.returncode == 3
    assert "does not exist" in done.stderr


def test_output_folder_not_writable(tmp_path):
    """/proc refuses new files to everyone, root included."""
    done = run("upscale", good_nifti(tmp_path), "-o", "/proc/out.nii")
    assert done.returncode == 3
    assert "Cannot write into" in done.stderr


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_no_room_for_the_output(tmp_path, kind):
    """The kernel refuses the write half-way, as on a full disk: here by a limit of file size."""
    if kind == "nifti":
        source, out, limit = good_nifti(tmp_path), tmp_path / "out.nii", 20_000
    else:
        write_series(tmp_path / "in", head((60, 60, 4)))
        source, out, limit = tmp_path / "in", tmp_path / "out", 15_000
    before = sorted(tmp_path.rglob("*"))

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = run("upscale", source, "-o", out, preexec_fn=limited)
    assert done.returncode == 3, done.stderr
    assert "Nothing was left behind" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 64 kB, where the machine lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if not shutil.which("mount") or subprocess.run(options, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a small file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_disk_full(full_disk, tmp_path):
    write_series(tmp_path / "in", head((60, 60, 8)))
    (full_disk / "old").write_text("mine")
    done = run("upscale", tmp_path / "in", "-o", full_disk / "out")
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert [p.name for p in full_disk.iterdir()] == ["old"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("while_writing", [False, True])
def test_interrupted(tmp_path, number, while_writing):
    """While computing, or while a file that takes seconds to compress is being written."""
    if while_writing:
        noise = np.random.default_rng(0).integers(0, 2**15, (256, 256, 400)).astype(np.int16)
        mrlift.save(mrlift.Volume(noise, np.eye(4)), tmp_path / "a.nii")
        command = [sys.executable, "-m", "mrlift", "degrade", "a.nii", "-o", "b.nii.gz"]
    else:
        mrlift.save(head_volume((400, 400, 40)), tmp_path / "a.nii")
        command = [sys.executable, "-m", "mrlift", "upscale", "a.nii", "-o", "b.nii.gz"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    if while_writing:
        while not list(tmp_path.glob(".mrlift-*/b.nii.gz")):
            assert process.poll() is None
            time.sleep(0.01)
    else:
        time.sleep(4)
    process.send_signal(number)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Interrupted" in text
    assert "Traceback" not in text
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]


def test_an_interruption_carries_the_exit_code_of_the_process():
    """Also where nothing is left to catch it, as while the first one is being told."""
    with pytest.raises(SystemExit) as ended:
        _interrupt(signal.SIGTERM, None)
    assert ended.value.code == 143


def test_a_reader_that_has_had_enough_is_no_fault():
    """`| head` closes the pipe; without typer around, as in mrlift-bids."""
    script = (
        "from mrlift.cli import run_safely; from mrlift.cli.console import say\n"
        "run_safely(lambda: [say('word' * 100) for _ in range(10_000)])"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=-1, stderr=-1) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


def test_interrupted_in_a_callback_of_asyncio():
    """Where asyncio logs what is raised, and goes on: a download would wait for ever."""
    code = """
import asyncio, os, signal
from mrlift.cli import run_safely

async def wait():
    asyncio.get_running_loop().call_soon(lambda: os.kill(os.getpid(), signal.SIGTERM))
    await asyncio.sleep(20)

run_safely(lambda: asyncio.run(wait()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143
    assert done.stderr == "Error: Interrupted. Nothing half-written was left behind.\n"
