"""The BIDS-App as a user runs it, judged by the official validator."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import head_volume

pytest.importorskip("distributed", reason="needs the archive extra")

import mrlift
from mrlift.archive.bids import Name

BIN = Path(sys.executable).parent
VALIDATOR = shutil.which("bids-validator-deno", path=BIN)
IMAGES = (
    "sub-01/anat/sub-01_T1w.nii.gz",
    "sub-01/anat/sub-01_acq-tse_run-1_T2w.nii",
    "sub-02/ses-a/anat/sub-02_ses-a_FLAIR.nii.gz",
)
labels = st.text("abcXYZ019", min_size=1, max_size=5)


def app(*arguments):
    command = [BIN / "mrlift-bids", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    return done


def valid(folder):
    """(whether the official validator finds no error, what it says)."""
    if VALIDATOR is None:
        pytest.skip("needs bids-validator-deno, which the extra dev installs")
    done = subprocess.run(
        [VALIDATOR, "--json", folder], capture_output=True, text=True, timeout=120
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    return not [i for i in issues if i["severity"] == "error"], issues


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """A small valid data set of two participants, and its derivative of the first level."""
    root = tmp_path_factory.mktemp("bids") / "raw"
    for k, name in enumerate(IMAGES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        mrlift.save(head_volume((24, 20, 3), seed=k), root / name)
        stem = (root / name).name.split(".")[0]
        values = {"Modality": "MR", "SkullStripped": k == 0}
        (root / name).with_name(f"{stem}.json").write_text(json.dumps(values))
    phase = root / "sub-01/anat/sub-01_part-phase_T1w.nii.gz"
    shutil.copy(root / IMAGES[0], phase)
    (root / "derivatives").mkdir()
    (root / "sub-01/anat/sub-01_defacemask.nii.gz").write_bytes(b"")
    (root / "README").write_text("A data set of phantoms for tests, nothing else.\n")
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": "phantoms", "BIDSVersion": "1.10.0", "License": "CC0"})
    )
    return root


@pytest.fixture(scope="module")
def derivative(data_set, tiny_weights):
    folder = data_set / "derivatives" / "mrlift"
    folder.parent.mkdir(exist_ok=True)
    options = ("--participant_label", "01", "sub-02", "--n_cpus", 1, "--model", tiny_weights)
    done = app(data_set, folder, "participant", *options)
    assert done.returncode == 0, done.stderr
    return folder


def test_names_and_json_of_a_derivative(data_set, derivative):
    names = {p.relative_to(derivative).as_posix() for p in derivative.rglob("sub-*.nii.gz")}
    assert names == {
        "sub-01/anat/sub-01_res-SRx2_desc-superres_T1w.nii.gz",
        "sub-01/anat/sub-01_acq-tse_run-1_res-SRx2_desc-superres_T2w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_res-SRx2_desc-superres_FLAIR.nii.gz",
    }
    about = json.loads(
        (derivative / "sub-01/anat/sub-01_res-SRx2_desc-superres_T1w.json").read_text()
    )
    assert about["Sources"] == [f"bids:raw:{IMAGES[0]}"]
    assert about["SpatialReference"] == "orig"
    assert about["SkullStripped"] is True
    assert "0.45 x 0.4 mm" in about["Resolution"]["SRx2"]
    assert about["GeneratedBy"][0]["Version"] == mrlift.__version__
    other = json.loads(next(derivative.rglob("*run-1*_T2w.json")).read_text())
    assert other["Sources"] == [f"bids:raw:{IMAGES[1]}"]
    described = json.loads((derivative / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert (derivative / described["DatasetLinks"]["raw"]).resolve() == data_set.resolve()
    image = nibabel.load(derivative / "sub-01/anat/sub-01_res-SRx2_desc-superres_T1w.nii.gz")
    assert image.shape == (48, 40, 3)
    assert np.allclose(image.header.get_zooms()[:2], (0.45, 0.4))


def test_the_official_validator_finds_no_error(derivative, tmp_path):
    sound, issues = valid(derivative)
    assert sound, issues
    # and would find one: entities in another order than the standard's
    spoiled = tmp_path / "spoiled"
    shutil.copytree(derivative, spoiled)
    file = next(spoiled.rglob("sub-01_res-*.nii.gz"))
    file.rename(file.with_name("sub-01_desc-superres_res-SRx2_T1w.nii.gz"))
    assert not valid(spoiled)[0]


def test_the_group_level_sums_up_all_participants(data_set, derivative):
    done = app(data_set, derivative, "group")
    assert done.returncode == 0, done.stderr
    assert "2 ledgers, 3 images done, 0 failed" in done.stdout
    assert "3 series, 3 done" in (derivative / "summary.html").read_text()


def test_bad_calls_say_what_is_wrong(data_set, derivative, tmp_path):
    done = app(data_set, derivative, "participant", "--participant-label", "99")
    assert done.returncode == 2
    assert "no participant 99" in done.stderr
    done = app(tmp_path, tmp_path / "x", "participant")
    assert done.returncode == 2
    assert "no BIDS data set" in done.stderr
    done = app(data_set, tmp_path / "none", "group")
    assert done.returncode == 2
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    done = app(data_set, foreign, "participant")
    assert done.returncode == 3
    assert "mrlift did not make" in done.stderr
    assert app(data_set, derivative, "nonsense").returncode == 2


def test_one_bad_image_fails_alone(data_set, tmp_path, tiny_weights):
    root = tmp_path / "raw"
    shutil.copytree(data_set, root, ignore=shutil.ignore_patterns("derivatives"))
    (root / IMAGES[0]).write_bytes(b"not an image")
    options = ("--model", tiny_weights, "--n-cpus", 1)
    done = app(root, tmp_path / "out", "participant", *options)
    assert done.returncode == 9
    assert IMAGES[0] in done.stdout
    assert len(list((tmp_path / "out").rglob("sub-*.nii.gz"))) == 2
    assert (tmp_path / "out/.mrlift/ledger.sqlite").exists()  # one for all


@given(label=labels, session=st.none() | labels, acquisition=st.none() | labels)
def test_a_derived_name_adds_two_entities_and_keeps_the_rest(label, session, acquisition):
    entities = [f"sub-{label}"]
    entities += [f"ses-{session}"] if session else []
    entities += [f"acq-{acquisition}"] if acquisition else []
    path = f"sub-{label}/anat/{'_'.join(entities)}_T1w.nii.gz"
    derived = Name.of(Name.of(path).derived(3))
    assert derived.folder == f"sub-{label}/anat"
    assert derived.entities == (*entities, "res-SRx3", "desc-superres")
    assert derived.suffix == "T1w"
    assert derived.contrast == "T1"
