"""What an archive costs: measures the machinery and the network, and extrapolates from both.

1. Forty thousand trivial series: files are found, tasks go through a real scheduler to real workers
   and their processes, and through a real ledger; only the work itself is nothing. What remains is
   the overhead of a task. The memory of the scheduler's process is sampled.
2. One core: the sample series with the default network and with the fast one.
3. From these: series per core-hour, and at how many cores what saturates.

    python benchmarks/archive_cost.py --json benchmarks/results/archive-cost.json
    python benchmarks/archive_cost.py --table benchmarks/results/archive-cost.json
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
ARCHIVE_TESTS = str(ROOT / "tests" / "archive")
sys.path[:0] = [ARCHIVE_TESTS, str(ROOT / "tests" / "node")]
from dasks import Dasks  # noqa: E402
from peers import free_port  # noqa: E402

from mrlift.archive.cluster import connect  # noqa: E402
from mrlift.archive.discovery import places  # noqa: E402
from mrlift.archive.ledger import Ledger, ledger_file  # noqa: E402
from mrlift.archive.series import perform  # noqa: E402
from mrlift.archive.session import Session, settings_for, with_engine  # noqa: E402
from mrlift.archive.task import Limits, Order, Outcome, Task  # noqa: E402
from mrlift.benchmark.quality import circumstances  # noqa: E402
from mrlift.io.facts import Selection  # noqa: E402

MODELS = ("mrl-x2-kspace", "mrl-fast-x2-bicubic")
STORAGE = 1e9  # bytes/s that a cluster's file system is taken to carry, reading and writing
CORES = 16  # of a machine
MACHINES = {"one machine": 1, "a hundred machines": 100}
NATIONAL = 10_000_000  # series


def overhead(count: int, folder: Path) -> dict[str, Any]:
    """Seconds of everything but the work, for each of `count` series."""
    source, dest = folder / "source", folder / "dest"
    for number in range(count):
        file = source / f"{number // 100:03d}" / f"{number:05d}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    # Where the work that is nothing stands.
    paths = (ARCHIVE_TESTS, os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    settings = settings_for(source, dest, model=MODELS[1], engine="onnx")
    with Dasks(folder, free_port()) as dasks, connect(dasks.address, 0) as client:
        client.wait_for_workers(2)
        scheduler, me = psutil.Process(dasks.pid()), psutil.Process()
        before = {"scheduler": _cpu(scheduler), "client": _cpu(me)}
        memory: dict[str, list[float]] = {"scheduler": [], "client": []}
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.5):
                for name, process in (("scheduler", scheduler), ("client", me)):
                    memory[name].append(round(process.memory_info().rss / 1e6, 1))

        watcher = threading.Thread(target=watch)
        watcher.start()
        with Session(settings, None, Selection(), Limits()) as session:
            began = time.perf_counter()
            counts = session.run(client, target="poison:trivial")
            seconds = time.perf_counter() - began
        ended.set()
        watcher.join()
        used = {"scheduler": _cpu(scheduler), "client": _cpu(me)}
    assert counts == {"done": count}, counts
    return {
        "series": count,
        "seconds": round(seconds, 2),
        "milliseconds_a_task": round(1e3 * seconds / count, 3),
        "cpu_milliseconds_a_task": {
            name: round(1e3 * (used[name] - before[name]) / count, 3) for name in used
        },
        # Of the first tenth everything is still being loaded.
        "megabytes": {
            name: {"after_a_tenth": values[len(values) // 10], "at_half": values[len(values) // 2],
                   "at_the_end": values[-1]}
            for name, values in memory.items()
        },
    }  # fmt: skip


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def alone(count: int, folder: Path) -> dict[str, float]:
    """Milliseconds a series of the ledger and of the walk by themselves."""
    settings = settings_for(folder / "source", folder / "alone", model=MODELS[1], engine="onnx")
    ledger = Ledger(ledger_file(folder / "alone"), write=True)
    ledger.settle(settings)
    began = time.perf_counter()
    for number in range(count):
        task = Task("series", f"{number:05d}.nii.gz", fingerprint="0" * 64, output="x")
        ledger.rows(task.path, task.uid)
        ledger.begin(task, 1)
        ledger.record(task, [Outcome("done", input_digest="0" * 64)], 1, "tcp://127.0.0.1:1")
    ledger_seconds = time.perf_counter() - began
    ledger.close()
    size = sum(f.stat().st_size for f in (folder / "alone" / ".mrlift").iterdir())
    began = time.perf_counter()
    found = sum(1 for _ in places(folder / "source"))
    walk_seconds = time.perf_counter() - began
    return {
        "ledger_milliseconds": round(1e3 * ledger_seconds / count, 3),
        "ledger_bytes": round(size / count),
        "walk_milliseconds": round(1e3 * walk_seconds / found, 3),
    }


def one_core(model: str, folder: Path) -> dict[str, Any]:
    """The sample series on one core, by what a worker does."""
    source = ROOT / "samples"
    settings = with_engine(settings_for(source, folder / model, model=model), None)
    work = folder / "work"
    work.mkdir(exist_ok=True)
    names = tuple(sorted(p.name for p in (source / "t1w").glob("*.dcm")))
    uid = "1.2.826.0.1.3680043.2.1143.515404396022363061013111326823367652"
    task = Task("series", "t1w", uid, names, output="t1w", work=str(work))
    began = time.process_time()
    (outcome,) = perform(Order(task, settings, Selection()))
    cpu = time.process_time() - began
    assert isinstance(outcome, Outcome)
    assert outcome.status == "done", outcome
    moved = [sum(f.stat().st_size for f in place.glob("*.dcm"))
             for place in (source / "t1w", folder / model / "t1w")]  # fmt: skip
    return {
        "engine": settings.engine,
        "cpu_seconds": round(cpu, 2),
        "wall_seconds": round(sum(outcome.seconds), 2),
        "of_it_network": round(outcome.seconds[1], 2),
        "bytes_read": 2 * moved[0],  # once for the digest, once to decode
        "bytes_written": 2 * moved[1],  # written, and read again for the digest
        "series_per_core_hour": round(3600 / cpu, 1),
    }


def extrapolate(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Hours and limits for each of the models."""
    tasks = record["overhead"]["cpu_milliseconds_a_task"]
    rows = []
    for model, one in record["one_core"].items():
        busy = one["cpu_seconds"]
        # Two tasks for a DICOM series: its folder is looked into first.
        limits = {
            "file system": STORAGE / (one["bytes_read"] + one["bytes_written"]),
            "client": 1e3 / (2 * tasks["client"]),
            "scheduler": 1e3 / (2 * tasks["scheduler"]),
            "ledger": 1e3 / record["alone"]["ledger_milliseconds"],
        }
        first = min(limits, key=lambda name: limits[name])
        most = limits[first]
        rows.append({
            "model": model,
            "series_per_core_hour": one["series_per_core_hour"],
            "series_per_hour": {
                name: round(min(n * CORES / busy, most) * 3600) for name, n in MACHINES.items()
            },
            "national_core_hours": round(NATIONAL * busy / 3600),
            "national_days_on_a_hundred": round(
                NATIONAL / min(MACHINES["a hundred machines"] * CORES / busy, most) / 86400, 1
            ),
            "saturating_cores": {name: round(rate * busy) for name, rate in limits.items()},
            "first": first,
        })  # fmt: skip
    return rows


def table(record: dict[str, Any]) -> str:
    """The figures as they stand in docs/explanation/archive.md."""
    names = list(MACHINES)
    lines = [
        "| weights | series per core-hour | an hour on one machine | an hour on a hundred | ten "
        "million series | on a hundred machines |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["model"]:
        lines.append(
            f"| `{row['model']}` | {row['series_per_core_hour']:,.0f} "
            f"| {row['series_per_hour'][names[0]]:,} | {row['series_per_hour'][names[1]]:,} "
            f"| {row['national_core_hours']:,} core-hours "
            f"| {row['national_days_on_a_hundred']:,.0f} days |"
        )
    limits = list(record["model"][0]["saturating_cores"])
    lines += ["", f"| weights | {' | '.join(limits)} |", "|---" * (len(limits) + 1) + "|"]
    for row in record["model"]:
        cores = " | ".join(f"{row['saturating_cores'][name]:,} cores" for name in limits)
        lines.append(f"| `{row['model']}` | {cores} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print, or print the table of a record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=40_000)
    parser.add_argument("--table", type=Path, metavar="JSON", help="only print its table")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())))
        return
    record = circumstances("python " + " ".join(["benchmarks/archive_cost.py", *sys.argv[1:]]))
    with tempfile.TemporaryDirectory(prefix="mrlift-archive-") as name:
        folder = Path(name)
        record["overhead"] = overhead(options.series, folder)
        record["alone"] = alone(options.series, folder)
        record["one_core"] = {model: one_core(model, folder) for model in MODELS}
    record["assumed"] = {"storage_bytes_per_second": STORAGE, "cores_of_a_machine": CORES}
    record["model"] = extrapolate(record)
    text = json.dumps(record, indent=2) + "\n"
    sys.stdout.write(text)
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
