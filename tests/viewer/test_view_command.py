"""`mrlift view` as a user starts and ends it."""

import gzip
import os
import re
import signal
import subprocess
import sys
import zipfile

import httpx
import pytest
from conftest import ROOT
from phantoms import head_volume

pytest.importorskip("starlette", reason="needs the view extra")
from serving import TINY

import mrlift
from mrlift.viewer.server import ASSETS

VIEW = [sys.executable, "-m", "mrlift", "view"]
built = pytest.mark.skipif(not (ASSETS / "index.html").exists(), reason="needs `make viewer`")


@pytest.fixture
def pair(tmp_path):
    lr = head_volume((40, 48, 3))
    mrlift.save(lr, tmp_path / "lr.nii.gz")
    mrlift.save(mrlift.upscale(lr, model=TINY), tmp_path / "sr.nii.gz")
    return tmp_path / "lr.nii.gz", tmp_path / "sr.nii.gz"


def start(tmp_path, *arguments):
    """A server of its own, with its address and with everything temporary under `tmp_path`."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    process = subprocess.Popen(
        [*VIEW, "--no-browser", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    url = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", url)
    return process, url, folder


@built
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_shows_a_pair_and_ends_cleanly(tmp_path, pair, number):
    process, url, folder = start(tmp_path, *pair, "--model", TINY, "--threads", 1)
    base, token = url.split("?token=")
    with httpx.Client(headers={"origin": base.rstrip("/")}) as client:
        assert "<title>mrlift view</title>" in client.get(url).text
        cases = client.post(f"{base}api/tabs").json()["cases"]
        assert cases["1"]["result"]["model"] == TINY
        assert cases["1"]["images"]["sr"]["shape"] == [80, 96, 3]
        assert list(folder.iterdir())
        process.send_signal(number)
        out, error = process.communicate(timeout=20)
    assert process.returncode == 0, error
    assert list(folder.iterdir()) == []
    assert token not in out + error


@built
def test_what_does_not_fit_is_refused(tmp_path, pair):
    def refused(*arguments):
        done = subprocess.run([*VIEW, "--no-browser", *arguments], capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done.returncode, " ".join(done.stderr.split())

    lr, sr = map(str, pair)
    code, error = refused(sr, lr)
    assert code == 2
    assert "Give LR first" in error
    assert refused(lr, sr, lr)[0] == 2
    assert refused(str(tmp_path / "none.nii"))[0] == 2
    assert refused(lr, sr, "--model", "mrl-x3-bicubic")[0] == 4
    process, url, _ = start(tmp_path)
    code, error = refused("--port", re.search(r":(\d+)/", url)[1])
    process.terminate()
    process.communicate(timeout=20)
    assert code == 5
    assert "cannot be used" in error


def test_without_the_built_page_it_says_how_to_get_it(tmp_path):
    code = (
        "from pathlib import Path\n"
        "import mrlift.viewer.server as server\n"
        f"server.ASSETS = Path({str(tmp_path)!r})\n"
        "import sys; sys.argv = ['mrlift', 'view']\n"
        "import mrlift.cli; mrlift.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 5
    assert "run `make viewer`" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@built
@pytest.mark.slow
def test_the_wheel_carries_the_page(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", tmp_path, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    folder = "mrlift/viewer/assets/"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        sizes = {i.filename: i.file_size for i in wheel.infolist() if folder in i.filename}
        index = wheel.read(f"{folder}index.html").decode()
        named = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', index)
        assert {name.rpartition(".")[2] for name in named} == {"js", "css", "txt"}
        for name in named:
            assert gzip.decompress(wheel.read(f"{folder}{name}.gz"))
    assert sum(sizes.values()) < 500_000
    assert not any("node_modules" in name for name in sizes)
