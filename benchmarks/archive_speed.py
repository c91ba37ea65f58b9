"""Throughput of two workers against one, when each has one core.

A Dask scheduler on loopback and workers pinned to a core each; runs with one and with two workers
take turns over the same real series, so that whatever else the machine does meets both alike. The
clock runs from the first task to the last; processes and weights are loaded before.

    MRLIFT_DATA=... python benchmarks/archive_speed.py --json benchmarks/results/archive-speed.json
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "archive"), str(ROOT / "tests" / "node")]
from dasks import Dasks  # noqa: E402
from peers import free_port  # noqa: E402
from trees import real_series, typed  # noqa: E402

from mrlift.archive.cluster import connect  # noqa: E402
from mrlift.archive.session import Session, settings_for  # noqa: E402
from mrlift.archive.task import Limits  # noqa: E402
from mrlift.benchmark.quality import circumstances  # noqa: E402
from mrlift.io.facts import Selection  # noqa: E402


def seconds(client: Any, source: Path, dest: Path, options: argparse.Namespace) -> float:  # noqa: ANN401
    """Of one run over the whole tree into a new place."""
    settings = settings_for(source, dest, model=options.model, engine=options.engine)
    with Session(settings, None, Selection(), Limits()) as session:
        began = time.perf_counter()
        counts = session.run(client)
        took = time.perf_counter() - began
    assert counts["done"] == options.series, counts
    shutil.rmtree(dest)
    return took


def measure(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Seconds of each run, by number of workers."""
    source, warm = folder / "source", folder / "warm"
    real_series(source, options.series)
    shutil.rmtree(source / "more", ignore_errors=True)
    real_series(warm, 6)
    shutil.rmtree(warm / "more", ignore_errors=True)
    took: dict[str, list[float]] = {"1": [], "2": []}
    for turn in range(2 * options.rounds):
        workers = 1 + (turn + turn // 2) % 2  # 1 2 2 1: neither always goes first
        pin = ("taskset", "-c", "{k}")
        with (
            Dasks(folder, free_port(), workers, pin) as dasks,
            connect(dasks.address, 0) as client,
        ):
            client.wait_for_workers(workers)
            seconds(
                client, warm, folder / "dest", argparse.Namespace(**vars(options) | {"series": 6})
            )
            took[str(workers)].append(seconds(client, source, folder / "dest", options))
        print(workers, round(took[str(workers)][-1], 2), file=sys.stderr)
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="mrl-x2-kspace")
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    record = circumstances(typed())
    with tempfile.TemporaryDirectory(prefix="mrlift-archive-") as folder:
        took = measure(options, Path(folder))
    medians = {workers: statistics.median(values) for workers, values in took.items()}
    record |= {
        "model": options.model,
        "engine": options.engine,
        "series": options.series,
        "seconds": {w: [round(v, 2) for v in values] for w, values in took.items()},
        "series_per_hour": {w: round(3600 * options.series / m) for w, m in medians.items()},
        "ratio": round(medians["1"] / medians["2"], 3),
    }
    text = json.dumps(record, indent=2) + "\n"
    sys.stdout.write(text)
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
