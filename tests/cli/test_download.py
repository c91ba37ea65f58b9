"""`mrlift data download` as a user runs it, from a server of the test's own."""

import random
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
from bucket import serve
from phantoms import head, write_series
from test_commands import run

import mrlift
from mrlift.collections.index import read_collection
from mrlift.collections.selection import select

pytest.importorskip("obstore", reason="needs the collections extra")


NAME = "vestibular-schwannoma-seg"


@pytest.fixture
def bucket(tmp_path_factory):
    """The first patient of a collection as the index lists it, with small images."""
    images = write_series(tmp_path_factory.mktemp("source"), head((12, 10, 200)), step=1.0)
    with serve() as bucket:
        for one in select(read_collection(NAME), patients=1).series:
            bucket.put_series(one.bucket, one.prefix, images[: one.images])
        yield bucket


def test_a_dry_run_says_all_and_writes_nothing(tmp_path):
    done = run("data", "download", "remind", "-o", tmp_path / "r", "--dry-run")
    assert done.returncode == 0, done.stderr
    for words in ("CC BY 4.0", "114", "653", "82,039", "19,366", "FLAIR 2-D", "US, not MR"):
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_download_and_again(bucket, tmp_path):
    folder = tmp_path / "r"
    command = ("data", "download", NAME, "-o", folder, "--patients", 1)
    done = run(*command, "--endpoint-url", bucket.url)
    assert done.returncode == 0, done.stderr
    assert f"{NAME} (MB)" in done.stderr
    expected = select(read_collection(NAME), patients=1).series
    for one in expected:
        assert one.folder.parts == (one.patient, one.uid)
        assert len(list((folder / one.folder).glob("*.dcm"))) == one.images
    assert mrlift.load(folder / expected[0].folder).voxels.shape == (12, 10, expected[0].images)
    (source,) = tomllib.loads((folder / "sources.toml").read_text())["source"]
    assert source["match"] == "**"
    assert source["licence"] == "CC BY 4.0"
    assert "Shapey" in (folder / "LICENCE.txt").read_text()
    before = len(bucket.requests)
    assert run(*command, "--endpoint-url", bucket.url).returncode == 0
    assert len(bucket.requests) == before
    other = run("data", "download", "remind", "-o", folder, "--dry-run")
    assert other.returncode == 3
    assert "holds another collection" in other.stderr


def test_interrupted_it_ends_at_once_and_goes_on_later(bucket, tmp_path):
    folder = tmp_path / "r"
    last = max(bucket.objects)
    command = (
        "data", "download", NAME, "-o", str(folder), "--patients", "1",
        "--endpoint-url", bucket.url,
    )  # fmt: skip
    bucket.faults[last] = ["hang"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mrlift", *command], stderr=subprocess.PIPE, text=True
    )
    began = time.monotonic()
    while not any(path == last for path, _ in bucket.requests):
        assert time.monotonic() - began < 60
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[1].endswith("Nothing half-written was left behind.\n")
    assert process.returncode == 143
    before = len(bucket.fetched())
    assert run(*command).returncode == 0
    assert 0 < len(bucket.fetched()) - before < len(bucket.objects)
    for one in select(read_collection(NAME), patients=1).series:
        assert len(list((folder / one.folder).glob("*.dcm"))) == one.images


def test_no_network_is_a_message(tmp_path):
    done = run(
        "data", "download", NAME, "-o", tmp_path / "r", "--patients", 1,
        "--endpoint-url", "http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode == 2
    assert "Check the network" in done.stderr
    assert not list((tmp_path / "r").rglob("*.dcm"))


def test_the_papers_collection_by_hand_and_its_split(tmp_path):
    folder = tmp_path / "btp"
    command = ("data", "download", "Brain-Tumor-Progression", "-o", folder, "--split", "paper")
    done = run(*command)
    assert done.returncode == 2
    assert "NBIA Data Retriever" in done.stderr
    assert not folder.exists()
    rng = random.Random(0)
    for p in range(20):
        descriptions = ("T1prereg", "T1post", "FLAIRreg", *["ADCreg"] * (p == 0))
        for s, description in enumerate(descriptions):
            write_series(
                folder / f"PGBM-{p:03d}" / str(s), np.ones((2, 2, rng.randint(18, 27))),
                series=f"1.2.{p}.{s}", PatientID=f"PGBM-{p:03d}", SeriesDescription=description,
            )  # fmt: skip
    done = run(*command, "--seed", 4)
    assert done.returncode == 0, done.stderr
    assert "to train: 24 series, 548 slices" in done.stdout
    assert "1 computed map" in done.stdout
    split = tomllib.loads((folder / "split.toml").read_text())
    patients = []
    for part, series, slices in (("train", 24, 548), ("test", 28, 646)):
        paths = split[part]["series"]
        assert len(paths) == series
        assert sum(len(list((folder / p).glob("*.dcm"))) for p in paths) == slices
        patients.append({p.split("/")[0] for p in paths})
    assert not patients[0] & patients[1]
    assert "15quzvnb" in (folder / "LICENCE.txt").read_text()
