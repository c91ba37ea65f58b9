"""Real peers on loopback for the tests and for benchmarks/node_kill.py."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ORTHANC = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(holds, seconds=30.0, what="it"):
    """Poll until `holds()` is true; its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = holds()
        if value:
            return value
        time.sleep(0.05)
    raise TimeoutError(f"{what} did not happen within {seconds:g} s")


def answers(port):
    """Whether somebody listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def process(command, log, port=None, **options):
    """Run a server, in a process of its own, until the block ends."""
    with log.open("ab") as out:
        running = subprocess.Popen(list(map(str, command)), stdout=out, stderr=out, **options)
        try:
            if port:
                wait_until(lambda: answers(port) or running.poll() is not None, 60, log.read_text())
            assert running.poll() is None, log.read_text()
            yield running
        finally:
            if running.poll() is None:
                running.terminate()
                try:
                    running.wait(20)
                except subprocess.TimeoutExpired:
                    running.kill()
                    running.wait()


def storescp(folder, port, *options):
    """dcmtk's archive: one file for each instance."""
    folder.mkdir(exist_ok=True)
    command = ["storescp", "-aet", "ARCHIVE", "-od", folder, *options, port]
    return process(command, folder.parent / f"{folder.name}.log", port)


class Node:
    """`mrlift node` in a process of its own, which can be killed and started again."""

    def __init__(
        self, folder, destinations, *, quiet=0.6, server="", extra="", model=None, ports=None
    ):
        self.folder = folder
        self.port, self.metrics_port = ports or (free_port(), free_port())
        self.queue = folder / "queue"
        self.log = folder / "node.log"
        self.running = None
        text = f"""
threads = 1
[queue]
folder = "{self.queue}"
quiet = {quiet}
reserve_mb = 1
[server]
port = {self.port}
{server}
[metrics]
port = {self.metrics_port}
{extra}
"""
        if "[[rule]]" not in extra:
            text += f'[[rule]]\nmodel = "{model or "mrl-tiny-x2-bicubic"}"\n'
        for name, port in destinations.items():
            title = "ORTHANC" if name == "orthanc" else "ARCHIVE"
            text += (
                f'[[destination]]\nname = "{name}"\naddress = "127.0.0.1"\nport = {port}\n'
                f'ae_title = "{title}"\nretry = 0.2\nretry_max = 2.0\ntimeout = 10.0\n'
            )
        (folder / "node.toml").write_text(text)

    def start(self):
        """Start it and wait until its port is open."""
        command = [sys.executable, "-m", "mrlift", "node", "--config", self.folder / "node.toml"]
        out = self.log.open("ab")
        self.running = subprocess.Popen(
            list(map(str, command)),
            stdout=out,
            stderr=out,
            env=os.environ | {"PYTHONFAULTHANDLER": "1"},
        )
        out.close()
        wait_until(
            lambda: answers(self.port) or self.running.poll() is not None, 60, "starting the node"
        )
        assert self.running.poll() is None, self.log.read_text()
        return self

    def kill(self):
        """SIGKILL: no last words."""
        self.running.send_signal(signal.SIGKILL)
        self.running.wait()

    def stop(self):
        """SIGTERM; the exit code. Where it does not end, an error that says what its threads do."""
        self.running.terminate()
        try:
            return self.running.wait(60)
        except subprocess.TimeoutExpired:
            self.running.send_signal(signal.SIGABRT)
            self.running.wait()
            raise AssertionError(self.log.read_text()) from None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.running.poll() is None:
            self.running.kill()
            self.running.wait()

    def get(self, path):
        """Status and body of the HTTP endpoint."""
        try:
            url = f"http://127.0.0.1:{self.metrics_port}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name):
        """The value of one line of /metrics."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        raise KeyError(name)

    def idle(self):
        """Whether nothing waits to be processed or sent."""
        body = self.get("/metrics")[1].splitlines()
        waiting = [
            line for line in body
            if line.startswith(('mrlift_node_series{state="receiving"}', "mrlift_node_unsent"))
        ]  # fmt: skip
        return all(float(line.split()[-1]) == 0 for line in waiting)


class Orthanc:
    """Debian's Orthanc with an empty storage, and its REST interface."""

    def __init__(self, folder, node_port):
        folder.mkdir()
        self.folder, self.port, self.http = folder, free_port(), free_port()
        config = {
            "Name": "test", "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"), "HttpPort": self.http, "DicomPort": self.port,
            "DicomAet": "ORTHANC", "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True, "DicomCheckCalledAet": True, "Plugins": [],
            "DicomScuTimeout": 10, "HttpTimeout": 10, "StableAge": 1,
            "DicomModalities": {"node": ["MRLIFT", "127.0.0.1", node_port]},
        }  # fmt: skip
        self.file = folder / "orthanc.json"
        self.file.write_text(json.dumps(config))

    @contextmanager
    def serving(self):
        """Run it until the block ends."""
        with process([ORTHANC, self.file], self.folder / "orthanc.log", self.http) as running:
            wait_until(lambda: answers(self.port), 60, "opening Orthanc's DICOM port")
            yield running

    def ask(self, path, body=None):
        """GET, or POST where there is a body (bytes, or an object as JSON)."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = answer.read()
        return json.loads(found) if answer.headers.get_content_subtype() == "json" else found

    def files(self):
        """Every instance it holds, as the bytes of a file."""
        return [self.ask(f"/instances/{name}/file") for name in self.ask("/instances")]


def send(files, port, *options, title="MRLIFT"):
    """dcmtk's storescu; which of `files` were acknowledged with success."""
    command = ["storescu", "-v", "-R", "-aec", title, *options, "127.0.0.1", port, *files]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, check=False
    )
    accepted, current = [], None
    for line in (done.stdout + done.stderr).splitlines():
        if "Sending file:" in line:
            current = Path(line.split("Sending file:", 1)[1].strip())
        elif "Received Store Response (Success)" in line:
            accepted.append(current)
    return accepted
