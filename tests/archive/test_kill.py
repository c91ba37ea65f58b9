"""A short version of benchmarks/archive_kill.py, and what its committed records say."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip("distributed", reason="needs the archive extra")

RESULTS = ROOT / "benchmarks" / "results"


def record(name):
    return json.loads((RESULTS / f"archive-{name}.json").read_text())


@pytest.mark.slow
def test_a_run_ends_with_the_same_bytes_whatever_is_killed(tmp_path):
    """60 series; one SIGKILL each for a worker, the scheduler and the client. 30 s."""
    command = [
        sys.executable, ROOT / "benchmarks" / "archive_kill.py", "--series", "60", "--workers", "1",
        "--schedulers", "1", "--clients", "1", "--json", tmp_path / "record.json",
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "MRLIFT_DATA"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "record.json").read_text())
    assert found["disturbed"]["counts"] == {"done": 60}
    assert [kill["of"] for kill in found["disturbed"]["kills"]][-1] == "client"


def test_the_record_of_kills_is_of_a_whole_run():
    found = record("kill")
    victims = [kill["of"] for kill in found["disturbed"]["kills"]]
    assert victims.count("worker") >= 10
    assert victims.count("scheduler") >= 3
    assert found["disturbed"]["counts"]["done"] >= 200
    assert found["disturbed"]["counts"] == found["undisturbed"]["counts"]
    assert found["files"] == found["files_identical"] > 200
    assert found["files_only_in_one"] == 0
    for part in (found["undisturbed"], found["disturbed"]):
        assert part["digests_wrong"] == part["files_not_in_ledger"] == part["files_missing"] == 0


def test_the_record_of_broken_files_tells_good_from_bad():
    found = record("broken")
    assert found["good_done"] == found["good_series"] >= 200
    assert found["broken_listed"] == found["broken_in_summary"] == found["broken_series"]
    assert found["broken_series"] == round(0.05 * found["good_series"])
    assert found["exit_code"] == 9


def test_the_record_of_the_cost_keeps_its_promises():
    found = record("cost")["overhead"]
    assert found["series"] >= 10_000
    assert found["milliseconds_a_task"] < 5
    memory = found["megabytes"]["scheduler"]
    assert memory["at_the_end"] < 1.01 * memory["at_half"]


def test_the_record_of_the_speed_keeps_its_promise():
    assert record("speed")["ratio"] >= 1.8


def test_the_table_in_the_docs_is_that_of_the_record():
    script = [sys.executable, ROOT / "benchmarks" / "archive_cost.py", "--table"]
    done = subprocess.run(
        [*script, RESULTS / "archive-cost.json"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in (ROOT / "docs/explanation/archive.md").read_text()
