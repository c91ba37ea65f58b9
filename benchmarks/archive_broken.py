r"""A tree of real small series, 5 % of them broken: who is done, who is listed with what reason.

Copies of good series are spoiled in ten ways that happen; with MRLIFT_DATA the series of its
dicom/failing/, which are unfit as they are, come on top. Every good series must be done, every bad
one must be in the ledger with a reason, the summary must name it, and the exit code must say so.

    MRLIFT_DATA=... python benchmarks/archive_broken.py \
        --json benchmarks/results/archive-broken.json
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "archive")]
from dasks import archive  # noqa: E402
from trees import (  # noqa: E402
    DICOM_FAULTS,
    NIFTI_FAULTS,
    break_dicom,
    break_nifti,
    real_series,
    typed,
)

from mrlift.archive.ledger import Ledger, Row, ledger_file  # noqa: E402
from mrlift.benchmark.quality import circumstances  # noqa: E402

MODEL = "mrl-tiny-x2-bicubic"


def spoil(source: Path, share: float, chance: random.Random) -> dict[str, str]:
    """Break copies of good series until they make up a share of the tree; {path: how}."""
    dicom = sorted(p for p in (source / "dicom").iterdir())
    nifti = sorted((source / "nifti").rglob("*.nii.gz"))
    count = max(1, round(share * (len(dicom) + len(nifti))))
    broken = {}
    for number in range(count):
        if number % 2:
            kind = DICOM_FAULTS[number // 2 % len(DICOM_FAULTS)]
            target = source / "broken" / f"{number:03d}"
            shutil.copytree(chance.choice(dicom), target)
            break_dicom(target, kind)
        else:
            kind = NIFTI_FAULTS[number // 2 % len(NIFTI_FAULTS)]
            target = source / "broken" / f"{number:03d}.nii.gz"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(chance.choice(nifti), target)
            break_nifti(target, kind)
        broken[target.relative_to(source).as_posix()] = kind
    return broken


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the tree, run once, compare; the record."""
    record = circumstances(typed())
    source, dest = folder / "source", folder / "dest"
    real_series(source, options.series, options.seed)
    shutil.rmtree(source / "more", ignore_errors=True)  # among them are a few that are unfit
    broken = spoil(source, options.share, random.Random(options.seed))
    if data := os.environ.get("MRLIFT_DATA"):
        shutil.copytree(Path(data) / "dicom" / "failing", source / "failing")
    client = archive("run", source, dest, "--workers", "2", "--model", MODEL, "--engine", "onnx")
    said, _ = client.communicate(timeout=1800)
    print(said, file=sys.stderr)
    ledger = Ledger(ledger_file(dest))
    rows = list(ledger.every())
    page = (dest / "summary.html").read_text()
    listed = {row.path: row for row in rows if row.status == "failed"}
    good = [row for row in rows if row.path.split("/")[0] in ("dicom", "nifti")]
    return record | {
        "model": MODEL,
        "seed": options.seed,
        "exit_code": client.returncode,
        "counts": ledger.counts(),
        "good_series": options.series,
        "good_done": sum(row.status == "done" for row in good),
        "broken_series": len(broken),
        "broken_listed": sum(bool(p in listed and listed[p].reason) for p in broken),
        "broken_in_summary": sum(path in page for path in broken),
        "broken": {
            path: {"how": kind, **_told(listed.get(path), source)} for path, kind in broken.items()
        },
        "unfit_as_they_are": {
            row.path: {"status": row.status, **_told(row, source)}
            for row in rows
            if row.path.startswith("failing/")
        },
    }


def _told(row: Row | None, source: Path) -> dict[str, str]:
    """What the ledger says, without paths of this machine."""
    if row is None:
        return {"error": "not in the ledger"}
    return {"error": row.error, "reason": row.reason.replace(f"{source}/", "")}


def main() -> None:
    """Run, print, and fail unless good and bad were told apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=200, help="good ones")
    parser.add_argument("--share", type=float, default=0.05, help="of broken ones on top")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mrlift-archive-") as folder:
        record = run(options, Path(folder))
    text = json.dumps(record, indent=2) + "\n"
    sys.stdout.write(text)
    if options.json:
        options.json.write_text(text)
    told_apart = (
        record["good_done"] == record["good_series"]
        and record["broken_listed"] == record["broken_in_summary"] == record["broken_series"]
        and record["exit_code"] == 9
    )
    sys.exit(0 if told_apart else 1)


if __name__ == "__main__":
    main()
