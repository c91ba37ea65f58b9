"""Fetching over HTTP from a server of the test's own."""

import hashlib
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from bucket import serve
from phantoms import head, write_series

import mrlift
from mrlift.collections.index import IndexedSeries
from mrlift.collections.transfer import fetch, is_complete
from mrlift.errors import InputError, OutputError

pytest.importorskip("obstore", reason="needs the collections extra")

PREFIX = "b5cb1cf9-76a3-4fd5-82d8-682dc7e44325"
SERIES = IndexedSeries(
    patient="P1",
    uid="1.2.3",
    folder=PurePosixPath("P1/1.2.3"),
    description="AX T2",
    modality="MR",
    sop_class="",
    derived_by="",
    images=12,
    megabytes=0.01,
    licence="CC BY 4.0",
    doi="10.1/a",
    bucket="open",
    prefix=PREFIX,
)
KEYS = [f"open/{PREFIX}/{k:03d}.dcm" for k in range(12)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    return write_series(folder, head((16, 12, 12)), series="1.2.3")


@pytest.fixture
def bucket(files):
    with serve() as bucket:
        bucket.put_series("open", PREFIX, files)
        yield bucket


def hidden(folder):
    return [p for p in folder.rglob("*") if p.name.startswith(".") or p.name.endswith(".part")]


def test_a_series_arrives_whole(bucket, files, tmp_path):
    seen = []
    fetch([SERIES], tmp_path, endpoint=bucket.url, progress=lambda *p: seen.append(p))
    place = tmp_path / "P1/1.2.3"
    assert {p.name: p.read_bytes() for p in place.glob("*.dcm")} == {
        p.name: p.read_bytes() for p in files
    }
    assert not hidden(tmp_path)
    assert seen == sorted(seen)
    if shutil.which("md5sum"):
        subprocess.run(["md5sum", "--check", "--strict", "MD5SUMS"], cwd=place, check=True)
    assert mrlift.load(place).voxels.shape == (16, 12, 12)


def test_listings_of_several_pages(bucket, tmp_path):
    many = {f"{k:04d}.dcm": bytes([k % 256]) * 20 for k in range(250)}
    for name, content in many.items():
        bucket.put(f"open/{'c' * 36}/{name}", content)
    fetch([replace(SERIES, prefix="c" * 36, images=250)], tmp_path, endpoint=bucket.url)
    assert len(list((tmp_path / "P1/1.2.3").glob("*.dcm"))) == 250


def test_what_is_complete_is_not_asked_for_again(bucket, tmp_path):
    fetch([SERIES], tmp_path, endpoint=bucket.url)
    bucket.requests.clear()
    fetch([SERIES], tmp_path, endpoint=bucket.url)
    assert bucket.requests == []


def test_a_broken_connection_goes_on_where_it_broke(bucket, tmp_path):
    bucket.faults[KEYS[3]] = ["cut", 503]
    fetch([SERIES], tmp_path, endpoint=bucket.url)
    assert is_complete(tmp_path / "P1/1.2.3")
    half = len(bucket.objects[KEYS[3]]) // 2
    assert any(k == KEYS[3] and r and r.startswith(f"bytes={half}-") for k, r in bucket.requests)


def test_a_file_that_arrives_spoilt_is_fetched_again(bucket, files, tmp_path):
    bucket.faults[KEYS[5]] = ["spoil", "spoil"]
    fetch([SERIES], tmp_path, endpoint=bucket.url)
    assert bucket.fetched().count(KEYS[5]) == 3
    assert (tmp_path / "P1/1.2.3/005.dcm").read_bytes() == files[5].read_bytes()


def test_a_file_that_stays_spoilt_is_an_error_and_the_rest_is_kept(bucket, tmp_path):
    bucket.faults[KEYS[5]] = ["spoil"] * 3
    with pytest.raises(InputError, match=r"005.dcm: expected \d+ bytes with MD5 [0-9a-f]{32}"):
        fetch([SERIES], tmp_path, endpoint=bucket.url)
    assert not (tmp_path / "P1/1.2.3").exists()
    kept = {p.name for p in tmp_path.rglob("*.dcm")}
    assert mrlift.io.find_series(tmp_path) == []
    bucket.requests.clear()
    fetch([SERIES], tmp_path, endpoint=bucket.url)
    assert {k.rsplit("/", 1)[1] for k in bucket.fetched()} == {
        f"{k:03d}.dcm" for k in range(12)
    } - kept
    assert "005.dcm" not in kept
    assert is_complete(tmp_path / "P1/1.2.3")
    assert not hidden(tmp_path)


def test_a_partial_file_of_a_run_before_is_not_trusted(bucket, files, tmp_path):
    part = tmp_path / "P1/.1.2.3.part"
    part.mkdir(parents=True)
    good = files[2].read_bytes()
    (part / "000.dcm").write_bytes(b"")
    (part / "001.dcm").write_bytes(bytes(files[1].stat().st_size))  # right length, wrong content
    (part / "002.dcm").write_bytes(good)
    (part / "003.dcm.part").write_bytes(b"half")
    fetch([SERIES], tmp_path, endpoint=bucket.url)
    assert KEYS[2] not in bucket.fetched()
    for file in files:
        assert (tmp_path / "P1/1.2.3" / file.name).read_bytes() == file.read_bytes()
    assert not hidden(tmp_path)


def test_killed_in_the_middle_the_next_run_goes_on(bucket, files, tmp_path):
    bucket.faults[KEYS[11]] = ["hang"]
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/collections']\n"
        "from pathlib import Path\n"
        "from test_transfer import SERIES, fetch\n"
        f"fetch([SERIES], Path({str(tmp_path)!r}), endpoint={bucket.url!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    part = tmp_path / "P1/.1.2.3.part"
    began = time.monotonic()
    while len(list(part.glob("*.dcm"))) < 11:
        assert time.monotonic() - began < 60
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (tmp_path / "P1/1.2.3").exists()
    bucket.requests.clear()
    fetch([SERIES], tmp_path, endpoint=bucket.url)
    assert bucket.fetched() == [KEYS[11]]
    assert is_complete(tmp_path / "P1/1.2.3")
    assert len(list((tmp_path / "P1/1.2.3").glob("*.dcm"))) == len(files)


def test_a_lost_file_is_fetched_again(bucket, tmp_path):
    fetch([SERIES], tmp_path, endpoint=bucket.url)
    (tmp_path / "P1/1.2.3/007.dcm").unlink()
    bucket.requests.clear()
    fetch([SERIES], tmp_path, endpoint=bucket.url)
    assert bucket.fetched() == [KEYS[7]]


def test_objects_uploaded_in_parts_are_checked_by_length(bucket, tmp_path):
    bucket.tags[KEYS[0]] = "0123456789abcdef0123456789abcdef-2"
    fetch([SERIES], tmp_path, endpoint=bucket.url)
    line = (tmp_path / "P1/1.2.3/MD5SUMS").read_text().splitlines()[0]
    md5 = hashlib.md5(bucket.objects[KEYS[0]], usedforsecurity=False).hexdigest()
    assert line == f"{md5}  000.dcm"


@pytest.mark.parametrize("name", ["../evil.dcm", "sub/evil.dcm", ".hidden", "a b.dcm", "a\\b.dcm"])
def test_unsafe_names_are_refused(bucket, tmp_path, name):
    bucket.put(f"open/{PREFIX}/{name}", b"x")
    folder = tmp_path / "inner"
    with pytest.raises(InputError):
        fetch([replace(SERIES, images=13)], folder, endpoint=bucket.url)
    assert bucket.fetched() == []
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_bucket_that_holds_less_than_the_index_says(bucket, tmp_path):
    del bucket.objects[KEYS[4]]
    with pytest.raises(InputError, match="the index names 12 images, the bucket holds 11"):
        fetch([SERIES], tmp_path, endpoint=bucket.url)


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_file(bucket, tmp_path, status):
    bucket.faults[KEYS[4]] = [status] * 10
    with pytest.raises(InputError, match="Run the same command again"):
        fetch([SERIES], tmp_path, endpoint=bucket.url)
    assert not (tmp_path / "P1/1.2.3").exists()


def test_nobody_answers(tmp_path):
    with pytest.raises(InputError, match=r"http://127.0.0.1:9 does not list series 1.2.3"):
        fetch([SERIES], tmp_path, endpoint="http://127.0.0.1:9")


def test_no_room(bucket, tmp_path):
    with pytest.raises(OutputError, match=r"take 1,000,000,000,000 MB, .* has room for"):
        fetch([replace(SERIES, megabytes=1e12)], tmp_path, endpoint=bucket.url)
    assert bucket.requests == []


def test_a_place_that_cannot_be_written(bucket, tmp_path):
    (tmp_path / "P1").write_text("a file")
    with pytest.raises(OutputError, match="Writing to"):
        fetch([SERIES], tmp_path, endpoint=bucket.url)
