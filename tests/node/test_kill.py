"""A short version of benchmarks/node_kill.py: the same program with fewer series."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from peers import ORTHANC


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("storescu"), reason="needs dcmtk")
def test_what_was_accepted_arrives_exactly_once_whenever_the_node_is_killed(tmp_path):
    """Four series of six instances, two SIGKILLs at random points. 15 s."""
    command = [
        sys.executable, ROOT / "benchmarks" / "node_kill.py", "--series", "4", "--instances", "6",
        "--kills", "2", "--quiet", "2", "--seed", "3", "--json", tmp_path / "record.json",
        *([] if ORTHANC else ["--no-orthanc"]),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert len(record["kills"]) == 2
    assert {part["once"] for part in record["destinations"].values()} == {24}


def test_the_committed_record_is_of_a_whole_run():
    record = json.loads((ROOT / "benchmarks/results/node-kill.json").read_text())
    assert (record["series"], record["instances"], len(record["kills"])) == (40, 1000, 5)
    assert set(record["destinations"]) == {"orthanc", "storescp"}
    for part in record["destinations"].values():
        assert (part["once"], part["lost"], part["twice"]) == (1000, 0, 0)
