"""Fuzz the readers and the DICOM writer with mutated files, guided by coverage (atheris).

    pip install '.[dev,fuzz]'
    python benchmarks/fuzz.py --runs 2000 --json benchmarks/results/fuzz.json

For every kind of file libFuzzer mutates small valid phantoms. What can be read is reduced and
written again. Every input must end as a result or as one of mrlift's own errors, within 10 s and
4 GiB of address space, and nothing may appear outside of the output folder. Anything else is
kept under --keep with its traceback and makes the command end with 1.
"""

import argparse
import collections
import gzip
import importlib.metadata
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from datetime import UTC, datetime
from pathlib import Path
from random import Random

ROOT = Path(__file__).parent.parent
SECONDS = 10
MEMORY = 4 * 2**30
LONGEST = 16384  # bytes of an input
TAIL = 120
PREFIX = 40  # bytes that say nothing in DICOM and little in NIfTI


def main() -> None:
    """Run one child process per kind of file and collect what each says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000, help="inputs per kind of file")
    parser.add_argument("--json", type=Path, help="where to write the counts")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--kinds", nargs="*", help="only these")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        fuzz(arguments.child, arguments.runs, arguments.keep)
        return
    sys.path.insert(0, str(ROOT / "tests"))
    kinds = {}
    for kind in arguments.kinds or SEEDS:
        kinds[kind] = run_child(kind, arguments.runs, arguments.keep)
        print(kind, json.dumps(kinds[kind]), flush=True)
    record = summary(kinds)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps({k: v for k, v in record.items() if k != "kinds"}, indent=2))
    sys.exit(1 if record["failures"] else 0)


def run_child(kind: str, runs: int, keep: Path) -> dict:
    """The outcomes of one kind; a child that dies or hangs is an outcome too."""
    keep.mkdir(parents=True, exist_ok=True)
    log = keep / f"{kind}.log"
    log.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--child", kind, "--runs", str(runs), "--keep", str(keep)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    text = log.read_text() if log.exists() else ""
    lines = [line.split("\t") for line in text.splitlines()]
    peak = [int(value) for name, value in lines if name == "memory"]
    outcomes = collections.Counter(name for name, _ in lines if name != "memory")
    if done.returncode:
        outcomes[f"failure: the process ended with {done.returncode}"] += 1
        (keep / f"{kind}.stderr").write_text(done.stderr[-20000:])
    return {
        "inputs": sum(outcomes.values()),
        "outcomes": dict(outcomes.most_common()),
        "longest_seconds": max((float(v) for n, v in lines if n != "memory"), default=0.0),
        "peak_megabytes": round(max(peak, default=0) / 1024),
        "seconds": round(time.perf_counter() - began, 1),
    }


def summary(kinds: dict) -> dict:
    """The record that is committed: totals first."""
    total = collections.Counter()
    for found in kinds.values():
        total.update(found["outcomes"])
    from mrlift.benchmark.quality import machine

    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT
    )
    return {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "machine": f"{machine()}, Python {platform.python_version()}",
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("atheris", "pydicom", "nibabel", "pylibjpeg-openjpeg", "pyjpegls")
        },
        "inputs": sum(total.values()),
        "failures": sum(n for name, n in total.items() if name.startswith("failure")),
        "outcomes": dict(total.most_common()),
        "longest_seconds": max(found["longest_seconds"] for found in kinds.values()),
        "peak_megabytes": max(found["peak_megabytes"] for found in kinds.values()),
        "kinds": kinds,
    }


def classic(syntax: str, **options: object) -> bytes:
    """A classic MR image of 8 x 6 pixels; openjpeg needs 32 x 32."""
    import pydicom
    from phantoms import head, write_series

    with tempfile.TemporaryDirectory() as folder:
        size = (32, 32, 1) if syntax.endswith("4.90") else (8, 6, 1)
        (file,) = write_series(Path(folder), head(size).round(), bits=16, **options)
        data = pydicom.dcmread(file)
    return _encoded(data, syntax)


def enhanced(syntax: str) -> bytes:
    """An Enhanced MR object of two contrasts of two frames each."""
    import pydicom
    from multiframe import write_enhanced
    from phantoms import head

    with tempfile.TemporaryDirectory() as folder:
        file = write_enhanced(
            Path(folder) / "a.dcm", head((8, 6, 2)).round(), contrasts=[{"echo": 1}, {"echo": 2}]
        )
        data = pydicom.dcmread(file)
    return _encoded(data, syntax)


def _encoded(data: object, syntax: str) -> bytes:
    from pydicom import dcmwrite
    from pydicom.uid import UID

    uid = UID(syntax)
    if uid.is_encapsulated:
        data.compress(uid, generate_instance_uid=False)
    data.file_meta.TransferSyntaxUID = uid
    if uid == "1.2.840.10008.1.2.2":
        data.PixelData = b"".join(
            data.PixelData[i : i + 2][::-1] for i in range(0, len(data.PixelData), 2)
        )
    buffer = io.BytesIO()
    list(data.iterall())  # convert every value before the byte order changes
    dcmwrite(
        buffer, data, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian,
        enforce_file_format=True,
    )  # fmt: skip
    return buffer.getvalue()


def jpeg() -> bytes:
    """A classic image in lossless JPEG, written by dcmtk."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.dcm"
        file.write_bytes(classic("1.2.840.10008.1.2.1"))
        subprocess.run(["dcmcjpeg", "+e1", file, file], check=True)
        return file.read_bytes()


def nifti(name: str, kind: str = "int16", *, time: bool = False) -> bytes:
    """A NIfTI file with qform, sform and slope."""
    import nibabel
    import numpy as np
    from phantoms import head

    voxels = head((8, 6, 3)).astype(kind)
    voxels = np.stack([voxels, voxels], -1) if time else voxels
    image = getattr(nibabel, name)(voxels, np.diag([-0.9, -0.8, 4, 1]))
    return image.to_bytes()


def deflated(content: bytes) -> bytes:
    """The data set behind the file meta information of `content`, deflated."""
    head = classic("1.2.840.10008.1.2.1.99")
    start = 144 + int.from_bytes(head[140:144], "little")
    squeeze = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return head[:start] + squeeze.compress(content) + squeeze.flush()


def data_set() -> bytes:
    """What `deflated` takes: a data set without preamble and file meta information."""
    content = classic("1.2.840.10008.1.2.1")
    return content[144 + int.from_bytes(content[140:144], "little") :]


# kind -> (seed, name of the file, what is done to a mutated input before it is written)
SEEDS = {
    "dicom explicit": (lambda: classic("1.2.840.10008.1.2.1"), "a.dcm", None),
    "dicom implicit": (lambda: classic("1.2.840.10008.1.2"), "a.dcm", None),
    "dicom big-endian": (lambda: classic("1.2.840.10008.1.2.2"), "a.dcm", None),
    "dicom deflated": (data_set, "a.dcm", deflated),
    "dicom RLE": (lambda: classic("1.2.840.10008.1.2.5"), "a.dcm", None),
    "dicom JPEG lossless": (jpeg, "a.dcm", None),
    "dicom JPEG-LS": (lambda: classic("1.2.840.10008.1.2.4.80"), "a.dcm", None),
    "dicom JPEG 2000": (lambda: classic("1.2.840.10008.1.2.4.90"), "a.dcm", None),
    "enhanced explicit": (lambda: enhanced("1.2.840.10008.1.2.1"), "a.dcm", None),
    "enhanced RLE": (lambda: enhanced("1.2.840.10008.1.2.5"), "a.dcm", None),
    "nifti-1": (lambda: nifti("Nifti1Image"), "a.nii", None),
    "nifti-1 4-D float": (lambda: nifti("Nifti1Image", "float32", time=True), "a.nii", None),
    "nifti-2": (lambda: nifti("Nifti2Image"), "a.nii", None),
    "nifti in gzip": (
        lambda: nifti("Nifti1Image"), "a.nii.gz", lambda data: gzip.compress(data, 1),
    ),
    "gzip": (lambda: gzip.compress(nifti("Nifti1Image"), mtime=0), "a.nii.gz", None),
}  # fmt: skip


def fuzz(kind: str, runs: int, keep: Path) -> None:
    """The child: libFuzzer in this process until `runs` inputs are tried; it does not return."""
    import atheris

    sys.path.insert(0, str(ROOT / "tests"))
    seed, name, prepare = SEEDS[kind]
    content = seed()
    with atheris.instrument_imports(include=["mrlift", "pydicom", "nibabel"]):
        import mrlift.inference.degradation
        import mrlift.io.derived
        import mrlift.io.nifti  # noqa: F401
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    work = Path(tempfile.mkdtemp(prefix="mrlift-fuzz-"))
    corpus = work / "corpus"
    corpus.mkdir()
    (corpus / "seed").write_bytes(content)
    (work / "in").mkdir()
    log = os.open(keep / f"{kind}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def one(data: bytes) -> None:
        (work / "in" / name).write_bytes(prepare(data) if prepare else data)
        began = time.perf_counter()
        outcome, story = attempt(work, work / "in" / name)
        seconds = time.perf_counter() - began
        if seconds > SECONDS:
            outcome = "failure: hang"
        if outcome.startswith("failure"):
            stamp = f"{kind}-{zlib.crc32(data):08x}"
            (keep / stamp).write_bytes((work / "in" / name).read_bytes())
            (keep / f"{stamp}.txt").write_text(f"{outcome}\n{story}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(log, f"{outcome}\t{seconds:.3f}\nmemory\t{peak}\n".encode())

    options = [
        f"-runs={runs}", f"-max_len={LONGEST}", f"-timeout={2 * SECONDS}", "-seed=1",
        f"-rss_limit_mb={MEMORY >> 20}", f"-artifact_prefix={keep / kind}-", "-verbosity=0",
    ]  # fmt: skip

    def gentle(data: bytes, longest: int, seed: int) -> bytes:
        """Most mutations change single bytes, half of them in the valid file: these get further in.

        A third of the changes hit the last bytes, where compressed pixels are.
        """
        random = Random(seed)
        if random.random() < 0.25:
            return atheris.Mutate(data, longest)
        changed = bytearray(data if random.random() < 0.5 and len(data) > PREFIX else content)
        for _ in range(random.choice((1, 1, 2, 4))):
            first = PREFIX if random.random() < 0.67 else max(PREFIX, len(changed) - TAIL)
            at = random.randrange(first, len(changed))
            changed[at] = random.choice((0, 1, 0x7F, 0xFF, random.randrange(256)))
        return bytes(changed)

    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=gentle)
    atheris.Fuzz()


def attempt(work: Path, file: Path) -> tuple[str, str]:
    """Read `file`, reduce it, write it as DICOM or NIfTI; the outcome, and a traceback or not."""
    import warnings

    import mrlift
    from mrlift.inference.degradation import degrade

    out = work / ("out" if file.suffix == ".dcm" else "out.nii")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            try:
                volume = mrlift.load(file)
            except mrlift.SeriesChoiceError as error:
                volume = mrlift.load(file, series=str(error).split()[1] + "/1")
        except mrlift.MrliftError as error:
            return f"refused: {type(error).__name__}", ""
        except Exception as error:
            return f"failure: {type(error).__name__} on reading", traceback.format_exc()
        try:
            mrlift.save(degrade(volume, 2), out, overwrite=True)
        except mrlift.MrliftError as error:
            return f"read, writing refused: {type(error).__name__}", ""
        except Exception as error:
            return f"failure: {type(error).__name__} on writing", traceback.format_exc()
    written = {p.name for p in out.iterdir()} if out.is_dir() else set()
    if {p.name for p in work.iterdir()} - {"in", "corpus", out.name} or written - {"00001.dcm"}:
        return "failure: a file outside of the output", ""
    return "read and written", ""


if __name__ == "__main__":
    main()
