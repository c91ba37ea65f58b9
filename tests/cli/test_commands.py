"""Every command as a user runs it, in a process of its own."""

import hashlib
import json
import subprocess
import sys

import nibabel
import numpy as np
import pydicom
import pytest
from multiframe import write_enhanced
from phantoms import head, head_volume, write_series
from typer.testing import CliRunner

import mrlift
from mrlift.cli import COMMANDS, application

TINY = "mrl-tiny-x2-bicubic"


def run(*arguments, **options):
    command = [sys.executable, "-m", "mrlift", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def nifti(tmp_path):
    mrlift.save(head_volume((40, 48, 3)), tmp_path / "a.nii.gz")
    return tmp_path / "a.nii.gz"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_alone_is_what_it_is_among_all(name):
    alone, all_of_them = (
        CliRunner().invoke(application(given), [name, "--help"]) for given in (name, "")
    )
    assert alone.exit_code == 0
    assert alone.stdout == all_of_them.stdout
    assert f"Usage: mrlift {name}" in alone.stdout
    assert "No such command" in CliRunner().invoke(application(name), ["nonsense"]).output


def test_garbage_is_looked_for_late_once_and_then_as_usual():
    code = (
        "import gc; from mrlift.cli import run_safely; t = []; "
        "look = lambda: t.append(gc.get_threshold()[0]); "
        "run_safely(lambda: [look(), gc.collect(), look(), gc.collect(), look()]); print(t)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[100000, 20000, 20000]\n", done.stderr


def test_help_names_every_command():
    text = run("--help").stdout
    for name in (
        "upscale",
        "check",
        "info",
        "models",
        "degrade",
        "evaluate",
        "train",
        "export",
        "bench",
        "data",
        "node",
        "archive",
        "view",
        "engines",
    ):
        assert name in text
        assert run(name, "--help").returncode == 0


def test_upscale_nifti_and_the_three_lines_of_python(nifti, tmp_path):
    done = run("upscale", nifti, "-o", tmp_path / "b.nii.gz", "--scale", 2, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "80 x 96 x 3 voxels of 0.45 x 0.4 x 4 mm" in done.stdout
    assert "3/3" in done.stderr
    sr = mrlift.upscale(mrlift.load(nifti), scale=2)
    mrlift.save(sr, tmp_path / "c.nii.gz")
    assert (tmp_path / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()
    image = nibabel.load(tmp_path / "b.nii.gz")
    assert image.header["descrip"].item().decode() == "mrlift x2"
    np.testing.assert_allclose(image.affine, sr.affine, atol=1e-5)


def test_upscale_json(nifti, tmp_path):
    facts = json.loads(run("upscale", nifti, "-o", tmp_path / "b.nii", "--json").stdout)
    assert facts["shape"] == [80, 96, 3]
    assert facts["model"] == mrlift.load_model().card.name
    assert facts["seconds"] > 0


def test_upscale_dicom_to_dicom_and_to_nifti(tmp_path):
    write_series(tmp_path / "s")
    assert run("upscale", tmp_path / "s", "-o", tmp_path / "d").returncode == 0
    files = sorted((tmp_path / "d").iterdir())
    assert len(files) == 4
    assert pydicom.dcmread(files[0]).Columns == 48
    assert run("upscale", tmp_path / "s", "-o", tmp_path / "n.nii").returncode == 0
    derived, converted = mrlift.load(tmp_path / "d"), mrlift.load(tmp_path / "n.nii")
    np.testing.assert_allclose(derived.affine, converted.affine, atol=1e-4)
    np.testing.assert_array_equal(derived.voxels, converted.voxels)


def test_nifti_flag_and_transfer_syntax(tmp_path):
    write_series(tmp_path / "s", head((24, 20, 2)))
    assert run("upscale", tmp_path / "s", "-o", tmp_path / "n", "--nifti").returncode == 0
    assert mrlift.load(tmp_path / "n.nii.gz").voxels.shape == (48, 40, 2)
    assert run("upscale", tmp_path / "s", "-o", tmp_path / "m.nii", "--nifti").returncode == 0
    assert (tmp_path / "m.nii").is_file()
    for name, uid in (("rle", "1.2.840.10008.1.2.5"), ("jpeg-ls", "1.2.840.10008.1.2.4.80")):
        done = run("upscale", tmp_path / "s", "-o", tmp_path / name, "--transfer-syntax", name)
        assert done.returncode == 0, done.stderr
        assert pydicom.dcmread(tmp_path / name / "00001.dcm").file_meta.TransferSyntaxUID == uid
    done = run("upscale", tmp_path / "s", "-o", tmp_path / "x.nii", "--transfer-syntax", "rle")
    assert done.returncode == 3
    assert "NIfTI has no transfer syntax" in done.stderr
    assert run("upscale", tmp_path / "s", "-o", "x", "--transfer-syntax", "gif").returncode == 2


def test_parts_of_an_enhanced_series_are_listed_and_chosen(tmp_path):
    file = write_enhanced(tmp_path / "a.dcm", contrasts=[{"echo": 10}, {"echo": 80}])
    facts = json.loads(run("info", file, "--json").stdout)
    assert [(s["uid"], s["description"]) for s in facts["series"]] == [
        ("1.2.3.5/1", "echo time 10"), ("1.2.3.5/2", "echo time 80"),
    ]  # fmt: skip
    assert run("upscale", file, "-o", tmp_path / "o").returncode == 2
    done = run("upscale", file, "-o", tmp_path / "o.dcm", "--series", "1.2.3.5/2")
    assert done.returncode == 0, done.stderr
    assert pydicom.dcmread(tmp_path / "o.dcm").NumberOfFrames == 4


def test_series_of_a_folder_with_two(tmp_path):
    write_series(tmp_path / "d" / "a", series="1.2.3.4")
    write_series(tmp_path / "d" / "b", head((8, 8, 2)), series="1.2.3.5")
    facts = json.loads(run("info", tmp_path / "d", "--json").stdout)
    assert [s["uid"] for s in facts["series"]] == ["1.2.3.4", "1.2.3.5"]
    assert "shape" not in facts
    assert "Choose one" in run("info", tmp_path / "d").stdout
    done = run("upscale", tmp_path / "d", "-o", tmp_path / "o", "--series", "1.2.3.5")
    assert done.returncode == 0
    assert len(list((tmp_path / "o").iterdir())) == 2


def test_info(nifti, sample):
    text = run("info", nifti).stdout
    for word in ("40 x 48 x 3, int16", "0.9 x 0.8 x 4 mm", "LPS", "nothing"):
        assert word in text
    facts = json.loads(run("info", sample, "--json").stdout)
    assert facts["shape"] == [274, 384, 20]
    assert facts["series"][0]["instances"] == 20


def test_info_says_what_is_odd(tmp_path):
    write_series(tmp_path / "s", AcquisitionMatrix=[0, 12, 10, 0])
    assert "interpolated" in run("info", tmp_path / "s").stdout
    done = run("upscale", tmp_path / "s", "-o", tmp_path / "o")
    assert "interpolated" in done.stdout


def test_models():
    cards = json.loads(run("models", "--json").stdout)
    assert {"name", "scale", "licence", "sha256", "metrics"} <= set(cards[0])
    assert "default" in run("models").stdout
    alone = run("models", TINY).stdout
    assert alone.startswith(TINY)
    assert alone.count("parameters") == 1


def test_models_as_plain_files(tmp_path):
    file = tmp_path / "mine.onnx"
    assert run("models", TINY, "-o", file).returncode == 0
    card = mrlift.load_model(TINY).card
    assert hashlib.sha256(file.read_bytes()).hexdigest() == card.sha256
    assert mrlift.load_model(file).card == card
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.json", "mine.onnx"]
    file.write_bytes(b"mine")
    again = run("models", TINY, "-o", file)
    assert again.returncode == 3
    assert "--overwrite" in again.stderr
    assert file.read_bytes() == b"mine"
    assert run("models", TINY, "-o", file, "--overwrite").returncode == 0
    assert len(file.read_bytes()) > 100_000
    assert run("models", TINY, "-o", tmp_path / "a.txt").returncode == 3
    assert run("models", "-o", tmp_path / "a.onnx").returncode == 2
    assert run("models", "nonsense", "-o", tmp_path / "a.onnx").returncode == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.json", "mine.onnx"]


def test_engines(nifti, tmp_path):
    facts = json.loads(run("engines", "--json").stdout)
    assert facts["engine"] in facts["installed"]
    assert {t["engine"] for t in facts["trials"]} <= set(facts["installed"])
    assert f"{facts['engine']}: " in run("engines").stdout
    for name in facts["installed"]:
        done = run("upscale", nifti, "-o", tmp_path / f"{name}.nii", "--engine", name, "--json")
        assert done.returncode == 0, f"{name}: exit code {done.returncode}, {done.stderr}"
        assert json.loads(done.stdout)["engine"] == name
    volumes = [mrlift.load(tmp_path / f"{name}.nii").voxels for name in facts["installed"]]
    for voxels in volumes[1:]:
        assert np.abs(voxels.astype(int) - volumes[0]).max() <= 1  # rounding
    wrong = run("upscale", nifti, "-o", tmp_path / "b.nii", "--engine", "tvm")
    assert wrong.returncode == 4
    assert "onnx, amx, winograd, ncnn, torch" in wrong.stderr
    assert not (tmp_path / "b.nii").exists()


def test_whole(nifti, tmp_path):
    for name, option in (("a", ()), ("b", ("--whole",))):
        done = run("upscale", nifti, "-o", tmp_path / f"{name}.nii", *option)
        assert done.returncode == 0
    skipped, whole = (mrlift.load(tmp_path / f"{name}.nii").voxels for name in "ab")
    assert np.abs(skipped.astype(int) - whole).max() < 50


def test_degrade_upscale_evaluate(nifti, tmp_path):
    for kind in ("bicubic", "kspace"):
        lr, sr = tmp_path / f"{kind}.nii", tmp_path / f"{kind}_sr.nii"
        assert run("degrade", nifti, "-o", lr, "--kind", kind, "--noise", 0.01).returncode == 0
        assert mrlift.load(lr).voxels.shape == (20, 24, 3)
        assert run("upscale", lr, "-o", sr).returncode == 0
        result = json.loads(run("evaluate", sr, nifti, "--json").stdout)
        assert len(result["slices"]) == 3
        assert result["mean"]["psnr"] > 20
    assert "PSNR" in run("evaluate", sr, nifti).stdout


def test_evaluate_identical_images_is_valid_json(nifti):
    result = json.loads(run("evaluate", nifti, nifti, "--json").stdout)
    assert result["mean"]["psnr"] is None
    assert result["mean"]["ssim"] == pytest.approx(1)


def test_bench_quality(nifti, tmp_path):
    done = run("bench", "quality", "--data", nifti.parent, "--json", tmp_path / "q.json")
    assert done.returncode == 0
    record = json.loads((tmp_path / "q.json").read_text())
    assert record["series"][0]["series"] == "a"
    assert str(tmp_path) not in (tmp_path / "q.json").read_text()


def test_what_is_said_is_there_at_once():
    """Not when the command ends: `mrlift view` tells its address, tables how far they are."""
    code = "import os; from mrlift.cli.console import say; say('a'); os._exit(0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "a\n"


def test_names_with_brackets(tmp_path):
    """rich would take [/b] for the end of markup that was never opened."""
    folder = tmp_path / "a["
    folder.mkdir()
    mrlift.save(head_volume((40, 48, 3)), folder / "one[t1].nii")
    for command in ("upscale", "degrade"):
        done = run(command, folder / "one[t1].nii", "-o", folder / "b].nii", "--overwrite")
        assert done.returncode == 0
        assert "a[/b].nii" in done.stdout
    (folder / "b].nii").unlink()
    assert run("info", folder / "one[t1].nii").returncode == 0
    assert "[t1]" in run("evaluate", folder / "no[t1].nii", folder / "one[t1].nii").stderr
    assert "one[t1]" in run("bench", "quality", "--data", folder).stderr


def test_degrade_json(nifti, tmp_path):
    facts = json.loads(run("degrade", nifti, "-o", tmp_path / "b.nii", "--json").stdout)
    assert facts["shape"] == [20, 24, 3]


def test_slice_axis(nifti, tmp_path):
    done = run("upscale", nifti, "-o", tmp_path / "b.nii", "--slice-axis", 0)
    assert "40 x 96 x 6 voxels" in done.stdout


def test_info_shows_a_series_that_it_would_refuse(tmp_path):
    write_series(tmp_path / "s", head((8, 8, 7)))[3].unlink()
    done = run("info", tmp_path / "s")
    assert done.returncode == 0
    assert "6 x 8x8" in done.stdout
    assert "refused" in done.stdout
    assert "gap" in done.stdout


def test_overwrite(nifti, tmp_path):
    (tmp_path / "b.nii").write_text("old")
    assert run("upscale", nifti, "-o", tmp_path / "b.nii").returncode == 3
    assert (tmp_path / "b.nii").read_text() == "old"
    assert run("upscale", nifti, "-o", tmp_path / "b.nii", "--overwrite").returncode == 0
    assert mrlift.load(tmp_path / "b.nii").voxels.shape == (80, 96, 3)
