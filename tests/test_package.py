"""What the package promises as a whole."""

import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import mrlift
from mrlift.inference.zoo import find_weights, shipped_names

PUBLIC = [
    "ConfigError", "GeometryError", "InputError", "ModelError", "MrliftError", "OutputError",
    "SeriesChoiceError", "Volume", "__version__", "load", "load_model", "save", "upscale",
]  # fmt: skip


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_surface():
    assert mrlift.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(mrlift, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mrlift.nonsense


def test_every_public_function_is_documented():
    for name in ("load", "save", "upscale", "load_model", "Volume"):
        text = getattr(mrlift, name).__doc__
        assert "Raises:" in text


def test_inference_runs_without_torch(sample):
    code = (
        "import sys, mrlift, mrlift.cli\n"
        f"mrlift.upscale(mrlift.load({str(sample / 'N2D_0193.dcm')!r}))\n"
        "import mrlift.benchmark.quality, mrlift.node.service, mrlift.viewer.server\n"
        "import mrlift.archive.session\n"
        "print([m for m in ('torch', 'skimage', 'matplotlib') if m in sys.modules])"
    )
    assert python(code).strip() == "[]"


def test_importing_costs_nothing():
    code = "import sys, mrlift; print([m for m in ('numpy', 'onnxruntime', 'pydicom', 'nibabel', 'torch') if m in sys.modules])"  # noqa: E501
    assert python(code).strip() == "[]"


def test_help_takes_under_0_3_s():
    def seconds():
        """Time on the processor: a test machine that is busy must not decide."""
        before = os.times()
        subprocess.run([sys.executable, "-m", "mrlift", "--help"], check=True, capture_output=True)
        after = os.times()
        return (
            after.children_user
            + after.children_system
            - (before.children_user + before.children_system)
        )

    seconds()
    assert statistics.median(seconds() for _ in range(5)) < 0.3


def test_version_is_in_the_changelog_and_the_citation():
    assert f"## {mrlift.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {mrlift.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_library_prints_nothing_and_logs_no_patient(sample, capfd, caplog):
    caplog.set_level(0)
    mrlift.upscale(mrlift.load(sample / "N2D_0193.dcm"))
    assert capfd.readouterr() == ("", "")
    assert "Jane" not in caplog.text


def test_links_inside_the_documents_lead_somewhere():
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "samples/README.md"]
    for document in documents:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if not target.startswith(("http", "mailto")):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.slow
def test_base_install_is_small(tmp_path):
    """pip install of the base product: under 250 MB, no torch. Needs the package index."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    site = next(venv.glob("lib/python*/site-packages"))
    before = _megabytes(site)
    done = subprocess.run(
        [venv / "bin/python", "-m", "pip", "install", "--quiet", ROOT],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    added = _megabytes(site) - before
    assert added < 250, f"the base install takes {added:.0f} MB"
    assert not (site / "torch").exists()
    assert (site / "mrlift/recipes/cpu-x2.toml").exists()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    command = [venv / "bin/mrlift", "upscale", ROOT / "samples/t1w/N2D_0193.dcm", "-o", "one.dcm"]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True)


def _megabytes(folder: Path) -> float:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


@pytest.mark.slow
def test_memory_of_a_large_series_is_bounded(tmp_path):
    """384x512x55 at x2, as in the README: under 1.5 GB. Measured by the operating system."""
    import numpy as np
    from phantoms import PEAK, head_volume

    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    mrlift.save(head_volume((384, 512, 55)), tmp_path / "a.nii.gz")
    code = (
        f"{PEAK}import numpy as np, mrlift\n"
        "from mrlift.inference.zoo import Model, load_model\n"
        "model = load_model()\n"
        "done = []\n"
        "def engine(slices):\n"
        "    # The network on every twentieth call keeps the test short; memory peaks the same.\n"
        "    done.append(0)\n"
        "    return model.engine(slices) if len(done) % 20 == 1 else np.repeat(np.repeat(slices, 2, 1), 2, 2)\n"  # noqa: E501
        f"sr = mrlift.upscale(mrlift.load({str(tmp_path / 'a.nii.gz')!r}), 2, Model(model.card, engine))\n"  # noqa: E501
        f"mrlift.save(sr, {str(tmp_path / 'b.nii.gz')!r})\n"
        "print(peak())"
    )
    assert float(python(code)) < 1.5e9
    assert mrlift.load(tmp_path / "b.nii.gz").voxels.dtype == np.int16


def test_model_cards_and_tables_are_those_of_the_results():
    """Every figure of the weights in README and docs, from the committed cards and results."""
    script = [sys.executable, ROOT / "benchmarks" / "cards.py", "--check"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_tables_of_trust_and_lesions_are_those_of_the_results():
    script = [sys.executable, ROOT / "benchmarks" / "trust_tables.py", "--check"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["trust-calibration", "trust-test", "lesions"])
def test_figures_of_trust_are_of_the_weights_that_are_shipped(name):
    record = json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text())
    for model, facts in record["models"].items():
        assert facts["sha256"] == find_weights(model)[0].sha256
    limits = json.loads((ROOT / "src/mrlift/quality/thresholds.json").read_text())
    assert record.get("thresholds", limits) == limits


def test_figures_of_trust_are_kept_for_the_same_weights_and_the_same_way_alone(tmp_path):
    spec = importlib.util.spec_from_file_location("trust", ROOT / "benchmarks/trust.py")
    trust = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(trust)
    record = json.loads((ROOT / "benchmarks/results/trust-test.json").read_text())
    same, other, *_ = record["models"]
    models = {same: record["models"][same], other: {"sha256": "0"}, "gone": {"sha256": "0"}}
    file = tmp_path / "trust.json"
    file.write_text(json.dumps(record | {"models": models}))
    way = {key: record[key] for key in ("slices", "noise", "faults")}
    found = trust.kept(file, way)
    assert list(found) == [same]
    assert found[same]["series"] == record["models"][same]["series"]
    told = record["models"][same].get("measured", record)  # kept before already, or not
    assert found[same]["measured"]["commit"] == told["commit"]
    limits = {key: record["thresholds"][key] for key in ("beyond", "bias", "shift", "structure")}
    assert list(trust.kept(file, way | limits)) == [same]
    for key in ("slices", "structure"):
        with pytest.raises(SystemExit, match=f"other {key}"):
            trust.kept(file, way | limits | {key: 0})


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks/results").glob("quality-*.json")))
def test_results_are_of_the_weights_that_are_shipped(file):
    record = json.loads(file.read_text())
    assert record["sha256"] == find_weights(record["model"])[0].sha256
    assert all(series["gain"] > 0 for series in record["series"])
    if record["degradation"] == "kspace":
        assert all(series["psnr"] > series["psnr_sinc"] for series in record["series"])


def test_every_shipped_model_has_its_results():
    measured = {
        p.stem.removeprefix("quality-")
        for p in (ROOT / "benchmarks/results").glob("quality-*.json")
    }
    assert set(shipped_names()) <= measured
