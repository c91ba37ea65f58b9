"""Kills workers and the scheduler of a run over real small series; compares what comes out.

A Dask scheduler and two workers of one core each run on loopback in processes of their own. The
same tree is upscaled twice: undisturbed, and while workers and the scheduler end by SIGKILL at
random points of the progress and are started again by a supervisor; towards the end the client,
`mrlift archive run`, is killed too and started again. In the end the outputs must be complete and
byte-identical to those of the undisturbed run, and both ledgers must agree with the files.

    MRLIFT_DATA=... python benchmarks/archive_kill.py --json benchmarks/results/archive-kill.json

Without MRLIFT_DATA all series are cut out of samples/.
"""

import argparse
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "archive"), str(ROOT / "tests" / "node")]
from dasks import Dasks, archive, patiently  # noqa: E402
from peers import free_port  # noqa: E402
from trees import real_series, typed  # noqa: E402

from mrlift.archive.ledger import Ledger, ledger_file  # noqa: E402
from mrlift.archive.series import digest  # noqa: E402
from mrlift.benchmark.quality import circumstances  # noqa: E402
from mrlift.errors import InputError  # noqa: E402

MODEL = "mrl-tiny-x2-bicubic"
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}  # the time that both runs state in DICOM


def start(source: Path, dest: Path, address: str) -> Any:  # noqa: ANN401
    """The client of a run."""
    how = ("--scheduler", address, "--model", MODEL, "--engine", "onnx")
    return archive("run", source, dest, *how, env=os.environ | EPOCH)


def finished(dest: Path) -> int:
    """How many series the ledger has an end for."""
    try:
        ledger = Ledger(ledger_file(dest))
        counts = ledger.counts()
        ledger.close()
    except (InputError, sqlite3.Error):
        return 0
    return sum(counts.get(s, 0) for s in ("done", "skipped", "failed", "quarantined"))


def disturbed(
    source: Path, dest: Path, dasks: Dasks, total: int, options: argparse.Namespace
) -> dict[str, Any]:
    """A run among kills; what was killed when."""
    chance = random.Random(options.seed)
    victims = ["worker"] * options.workers + ["scheduler"] * options.schedulers
    chance.shuffle(victims)
    victims += ["client"] * options.clients
    points = sorted(chance.uniform(0.02, 0.9) for _ in victims)
    began, kills, client = time.monotonic(), [], start(source, dest, dasks.address)
    for point, victim in zip(points, victims, strict=True):
        while finished(dest) < point * total and client.poll() is None:
            time.sleep(0.05)
        assert client.poll() is None, f"ended before all kills: {client.communicate()[0]}"
        if victim == "worker":
            patiently(lambda: dasks.kill_worker(chance))
        elif victim == "scheduler":
            dasks.kill_scheduler()
        else:
            client.kill()
            client.communicate()
            client = start(source, dest, dasks.address)
        done = finished(dest)
        kills.append({"second": round(time.monotonic() - began, 1), "of": victim,
                      "series_done": done})  # fmt: skip
        # Work, not time, passes between two kills: the dead come back however fast the machine is.
        patiently(lambda: finished(dest) > done or client.poll() is not None)  # noqa: B023
    said, _ = client.communicate(timeout=900)
    return {"kills": kills, "seconds": round(time.monotonic() - began, 1),
            "exit_code": client.returncode, "said": said}  # fmt: skip


def outputs(dest: Path) -> dict[str, bytes]:
    """Everything in a destination but the ledger and the summary."""
    return {
        p.relative_to(dest).as_posix(): p.read_bytes()
        for p in sorted(dest.rglob("*"))
        if p.is_file() and p.relative_to(dest).parts[0] not in (".mrlift", "summary.html")
    }


def judge(dest: Path) -> dict[str, Any]:
    """Whether the ledger agrees with the files, both ways."""
    ledger, claimed, wrong = Ledger(ledger_file(dest)), set(), 0
    for row in ledger.every():
        if row.status != "done":
            continue
        output = dest / row.output
        files = sorted(output.iterdir()) if output.is_dir() else [output]
        claimed |= {file.relative_to(dest).as_posix() for file in files}
        wrong += digest(files) != row.output_digest
    return {
        "counts": ledger.counts(),
        "digests_wrong": wrong,
        "files_not_in_ledger": len(set(outputs(dest)) - claimed),
        "files_missing": len(claimed - set(outputs(dest))),
        "unfinished_left": sum(1 for _ in (dest / ".mrlift").glob("work*")),
    }


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both runs; the record."""
    source = folder / "source"
    real_series(source, options.series, options.seed)
    record = circumstances(typed())
    with Dasks(folder, free_port()) as dasks:
        began = time.monotonic()
        calm = start(source, folder / "calm", dasks.address)
        said, _ = calm.communicate(timeout=1800)
        assert calm.returncode in (0, 9), said
        seconds = round(time.monotonic() - began, 1)
    with Dasks(folder, free_port()) as dasks:
        total = finished(folder / "calm")
        wild = disturbed(source, folder / "wild", dasks, total, options)
    print(wild.pop("said"), file=sys.stderr)
    calm_files, wild_files = outputs(folder / "calm"), outputs(folder / "wild")
    return record | {
        "model": MODEL,
        "seed": options.seed,
        "real_data": bool(os.environ.get("MRLIFT_DATA")),
        "undisturbed": {"seconds": seconds, "exit_code": calm.returncode, **judge(folder / "calm")},
        "disturbed": wild | judge(folder / "wild"),
        "files": len(calm_files),
        "files_identical": sum(calm_files[n] == wild_files.get(n) for n in calm_files),
        "files_only_in_one": len(set(calm_files) ^ set(wild_files)),
    }


def sound(record: dict[str, Any]) -> bool:
    """Whether nothing was lost or altered."""
    calm, wild = record["undisturbed"], record["disturbed"]
    return (
        record["files_identical"] == record["files"]
        and not record["files_only_in_one"]
        and calm["counts"] == wild["counts"]
        and calm["exit_code"] == wild["exit_code"]
        and not any(
            part[key]
            for part in (calm, wild)
            for key in ("digests_wrong", "files_not_in_ledger", "files_missing", "unfinished_left")
        )
    )


def main() -> None:
    """Run, print, and fail unless the two runs agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=240)
    parser.add_argument("--workers", type=int, default=10, help="kills of workers")
    parser.add_argument("--schedulers", type=int, default=3, help="kills of the scheduler")
    parser.add_argument("--clients", type=int, default=1, help="kills of the client")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mrlift-archive-") as folder:
        record = run(options, Path(folder))
    text = json.dumps(record, indent=2) + "\n"
    sys.stdout.write(text)
    if options.json:
        options.json.write_text(text)
    sys.exit(0 if sound(record) else 1)


if __name__ == "__main__":
    main()
