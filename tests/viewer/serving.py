"""A real viewer on a real port, and a client that behaves as its page does."""

import json
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
from phantoms import head_volume

import mrlift
from mrlift.inference.engines import bicubic_engine
from mrlift.inference.zoo import Model, load_model
from mrlift.viewer.app import Settings
from mrlift.viewer.server import Server

TINY = "mrl-tiny-x2-bicubic"


@contextmanager
def serving(given=None, **settings):
    """A running server; afterwards it must have ended and left nothing behind."""
    server = Server(Settings(given, **{"grace": 0.3, **settings}))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()
        assert not server.folder.exists()


class Page:
    """A tab, as the page uses it; a context manager that holds the stream of events open."""

    def __init__(self, server):
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30)
        self.http.headers["origin"] = f"http://127.0.0.1:{server.port}"
        self.http.get(server.url).raise_for_status()
        self.opened = self.http.post("/api/tabs").raise_for_status().json()
        self.api = f"/api/tabs/{self.opened['tab']}"

    def __enter__(self):
        self._stream = self.http.stream("GET", f"{self.api}/events")
        self._lines = self._stream.__enter__().iter_lines()
        return self

    def __exit__(self, *_):
        self.leave()

    def leave(self):
        """Close the tab."""
        self._stream.__exit__(None, None, None)
        self.http.close()

    def events(self):
        """(kind, facts) as they come."""
        kind = ""
        for line in self._lines:
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                yield kind, json.loads(line[6:])

    def end_of_job(self):
        """The last event of the job, and how far it had come at each step."""
        steps = []
        for kind, facts in self.events():
            if kind != "progress":
                return kind, facts, steps
            steps.append((facts["done"], facts["total"]))
        raise AssertionError("the stream ended")

    def post(self, path, **body):
        return self.http.post(self.api + path, json=body)

    def send(self, files, name="upload", claimed=None):
        """Upload {name: bytes} and have it read; the answer of the first request that fails."""
        size = sum(map(len, files.values())) if claimed is None else claimed
        answer = self.post("/upload", name=name, bytes=size)
        for path, content in files.items():
            if answer.is_error:
                return answer
            url = f"{self.api}/upload"
            answer = self.http.put(url, params={"name": path}, content=content)
        return answer if answer.is_error else self.post("/upload/done", series="")


def nifti(folder, shape=(40, 48, 6), **kind):
    """The bytes of a NIfTI file with a phantom."""
    mrlift.save(head_volume(shape, **kind), folder / "phantom.nii.gz")
    return (folder / "phantom.nii.gz").read_bytes()


def slow_model(monkeypatch, seconds=0.2):
    """Let the server's jobs take their time, so that something can happen meanwhile."""
    card = load_model(TINY).card
    bicubic = bicubic_engine(2)

    def engine(slices):
        time.sleep(seconds)
        return bicubic(slices)

    monkeypatch.setattr("mrlift.viewer.app.load_model", lambda *_, **__: Model(card, engine))


def eventually(true, seconds=10):
    """Wait until `true()` holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def kept(server):
    """Everything that the server keeps on disk; it may go while it is listed, hence os.walk."""
    return sorted(
        Path(folder, name).relative_to(server.folder)
        for folder, folders, files in os.walk(server.folder)
        for name in (*folders, *files)
    )
