"""A Dask scheduler and workers in processes of their own, which die and are started again.

What a supervisor such as Slurm or Kubernetes does on a cluster, a thread does here.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

DASK = str(Path(sys.executable).with_name("dask"))


class Dasks:
    """One scheduler and workers of one core each on loopback, kept alive until the block ends.

    `command` is put before that of worker k, with {k} filled in; for instance to pin it to a core.
    """

    def __init__(self, folder, port, workers=2, command=()):
        self.address = f"tcp://127.0.0.1:{port}"
        self._log = (folder / "dask.log").open("ab")
        usual = [DASK, "worker", self.address, "--nthreads", "1", "--nworkers", "1",
                 "--no-dashboard", "--host", "127.0.0.1", "--death-timeout", "30",
                 "--local-directory", folder, "--memory-limit", "2GB"]  # fmt: skip
        self._commands = {
            "scheduler": [DASK, "scheduler", "--host", "127.0.0.1", "--port", port,
                          "--no-dashboard"],
        } | {
            f"worker {k}": [str(part).format(k=k) for part in command] + usual
            for k in range(workers)
        }  # fmt: skip
        self._running = {}
        self._ending = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    def _start(self, name):
        environment = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "30"}
        self._running[name] = subprocess.Popen(
            list(map(str, self._commands[name])), stdout=self._log, stderr=self._log,
            env=environment,
        )  # fmt: skip

    def _supervise(self):
        while not self._ending.wait(0.3):
            for name, process in list(self._running.items()):
                if process.poll() is not None:
                    self._start(name)

    def __enter__(self):
        for name in self._commands:
            self._start(name)
        self._supervisor.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._supervisor.join()
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()

    def pid(self, name="scheduler"):
        """Of the scheduler's process, for instance."""
        return self._running[name].pid

    def kill_scheduler(self):
        """SIGKILL; the supervisor starts another at the same address."""
        self._running["scheduler"].send_signal(signal.SIGKILL)

    def kill_worker(self, chance):
        """SIGKILL to one process that Dask computes in, if any is there; whether one was."""
        names = [name for name in self._running if name != "scheduler"]
        chance.shuffle(names)
        for name in names:
            try:
                children = psutil.Process(self._running[name].pid).children()
            except psutil.NoSuchProcess:
                continue
            for child in children:
                # Beside it the nanny has Python's resource tracker.
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
                    return True
        return False


def archive(*arguments, **options):
    """Start `mrlift archive ...` in a process of its own."""
    command = [sys.executable, "-m", "mrlift", "archive", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def patiently(until, seconds=300):
    """Poll until `until()` is true."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, f"nothing happened within {seconds} s"
        time.sleep(0.05)
