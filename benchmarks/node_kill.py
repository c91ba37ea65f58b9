"""Kills a node at random moments while real peers send to it; counts what arrives.

Orthanc (Debian) and dcmtk's storescu each send half of the series. storescu never repeats what
was acknowledged, so an instance that the node loses stays lost; Orthanc repeats whole series, so
duplicates occur. The node is ended with SIGKILL at random moments and started again. Results go
to two destinations: the same Orthanc, and dcmtk's storescp. In the end every source instance must
be referred to by exactly one derived instance at each destination.

    python benchmarks/node_kill.py --json benchmarks/results/node-kill.json

Needs Debian's orthanc and dcmtk. --no-orthanc does without the former.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileDataset

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "node")]
from peers import Node, Orthanc, free_port, send, storescp, wait_until  # noqa: E402
from phantoms import head, write_series  # noqa: E402

from mrlift._version import __version__  # noqa: E402
from mrlift.benchmark.quality import machine  # noqa: E402


def make_series(folder: Path, number: int, instances: int) -> list[Path]:
    """A small series in a study of its own; its files."""
    study = f"1.2.826.0.1.3680043.8.498.1.{number}"
    return write_series(
        folder / f"{number:03d}",
        head((32, 28, instances), seed=number),
        series=f"{study}.1",
        StudyInstanceUID=study,
        FrameOfReferenceUID=f"{study}.2",
        PatientID=f"P{number}",
        SeriesDescription="t1 phantom",
    )


def send_with_storescu(
    series: list[list[Path]], node: Node, tally: Counter[str], pause: float
) -> None:
    """Send each series; repeat only what was not acknowledged."""
    for files in series:
        left = list(files)
        while left:
            accepted = send(left, node.port)
            tally["accepted from storescu"] += len(accepted)
            left = [file for file in left if file not in accepted]
            if left:
                tally["storescu runs repeated"] += 1
                time.sleep(0.2)
        time.sleep(pause)


def send_with_orthanc(ids: list[str], orthanc: Orthanc, tally: Counter[str], pause: float) -> None:
    """Send each series; repeat a whole one until Orthanc says that all of it was taken."""
    for name in ids:
        while True:
            try:
                done = orthanc.ask("/modalities/node/store", {"Resources": [name]})
            except (urllib.error.HTTPError, TimeoutError):
                tally["Orthanc jobs repeated"] += 1
                time.sleep(0.2)
                continue
            tally["accepted from Orthanc"] += done["InstancesCount"]
            assert done["FailedInstancesCount"] == 0, done
            break
        time.sleep(pause)


def the_senders(
    everything: list[list[Path]],
    node: Node,
    orthanc: Orthanc | None,
    tally: Counter[str],
    pause: float,
) -> list[threading.Thread]:
    """Threads that send half of the series each, or one for all without Orthanc."""
    half = len(everything) // 2 if orthanc else len(everything)
    calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
        (send_with_storescu, (everything[:half], node, tally, pause))
    ]
    if orthanc:
        ids = series_in(orthanc, [f for files in everything[half:] for f in files])
        calls.append((send_with_orthanc, (ids, orthanc, tally, pause)))
    return [threading.Thread(target=call, args=arguments) for call, arguments in calls]


def series_in(orthanc: Orthanc, files: list[Path]) -> list[str]:
    """Put series into Orthanc's storage; their identifiers there."""
    return list(
        dict.fromkeys(orthanc.ask("/instances", f.read_bytes())["ParentSeries"] for f in files)
    )


def kill_and_restart(
    node: Node, kills: int, progress: Callable[[], float], chance: random.Random
) -> list[dict[str, Any]]:
    """SIGKILL at random points of the progress from 0 to 1; when they were, and what was on."""
    began, record = time.monotonic(), []
    for point in sorted(chance.uniform(0.0, 0.95) for _ in range(kills)):
        while progress() < point:
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, 0.5))
        state = {}
        with suppress(OSError):
            for line in node.get("/metrics")[1].splitlines():
                if line.startswith(("mrlift_node_series{", "mrlift_node_unsent_series{")):
                    name = line.split('"')[1]
                    state[f"unsent to {name}" if "unsent" in line else name] = int(
                        float(line.split()[-1])
                    )
        seconds = time.monotonic() - began
        node.kill()
        time.sleep(chance.uniform(0.0, 1.0))
        node.start()
        record.append({"second": round(seconds, 2), "progress": round(progress(), 2)} | state)
    return record


def judge(datasets: list[FileDataset], sources: set[str]) -> dict[str, Any]:
    """How often each source instance is referred to by what one destination holds."""
    seen = Counter()
    parts = Counter()
    uids = set()
    for data in datasets:
        if "SourceImageSequence" not in data:
            continue
        assert data.SOPInstanceUID not in uids
        uids.add(data.SOPInstanceUID)
        parts[data.SeriesInstanceUID] += 1
        seen.update(item.ReferencedSOPInstanceUID for item in data.SourceImageSequence)
    return {
        "derived_series": len(parts),
        "derived_instances": len(uids),
        "once": sum(seen[uid] == 1 for uid in sources),
        "lost": sum(seen[uid] == 0 for uid in sources),
        "twice": sum(seen[uid] > 1 for uid in sources),
        "foreign": sum(uid not in sources for uid in seen),
        "instances_per_series": sorted(set(parts.values())),
    }


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The whole run; the record."""
    chance = random.Random(options.seed)
    everything = [
        make_series(folder / "sources", n, options.instances) for n in range(options.series)
    ]
    sources = {
        str(pydicom.dcmread(f, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        for files in everything
        for f in files
    }
    tally: Counter[str] = Counter()
    with ExitStack() as stack:
        copy_port = free_port()
        stack.enter_context(storescp(folder / "copy", copy_port))
        ports, destinations, orthanc = (free_port(), free_port()), {"copy": copy_port}, None
        if options.orthanc:
            orthanc = Orthanc(folder / "orthanc", ports[0])
            destinations["orthanc"] = orthanc.port
            stack.enter_context(orthanc.serving())
        node = Node(folder, destinations, quiet=options.quiet, ports=ports)
        stack.enter_context(node)
        senders = the_senders(everything, node, orthanc, tally, options.pause)
        began = time.monotonic()
        for sender in senders:
            sender.start()

        def progress() -> float:
            accepted = tally["accepted from storescu"] + tally["accepted from Orthanc"]
            return (accepted + len(list((folder / "copy").iterdir()))) / 2 / len(sources)

        kills = kill_and_restart(node, options.kills, progress, chance)
        for sender in senders:
            sender.join()
        wait_until(node.idle, 300, "an end of all work")
        seconds = time.monotonic() - began
        node.stop()
        found = {"storescp": [pydicom.dcmread(f) for f in (folder / "copy").iterdir()]}
        if orthanc:
            found["orthanc"] = [pydicom.dcmread(BytesIO(b)) for b in orthanc.files()]
    return {
        "command": "python " + " ".join(["benchmarks/node_kill.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "version": __version__,
        "seed": options.seed,
        "series": options.series,
        "instances": len(sources),
        "quiet_s": options.quiet,
        "seconds": round(seconds, 1),
        "senders": dict(sorted(tally.items())),
        "kills": kills,
        "destinations": {name: judge(data, sources) for name, data in sorted(found.items())},
    }


def commit() -> str:
    """Of the working tree."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Run, print, and fail unless every instance arrived exactly once everywhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=40)
    parser.add_argument("--instances", type=int, default=25, help="of each series")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between two series")
    parser.add_argument("--quiet", type=float, default=6.0, help="the node's quiet time, seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-orthanc", dest="orthanc", action="store_false")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mrlift-node-") as folder:
        record = run(options, Path(folder))
    text = json.dumps(record, indent=2) + "\n"
    sys.stdout.write(text)
    if options.json:
        options.json.write_text(text)
    whole = all(
        part["once"] == part["derived_instances"] == record["instances"]
        and part["derived_series"] == options.series
        and not part["foreign"]
        for part in record["destinations"].values()
    )
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
