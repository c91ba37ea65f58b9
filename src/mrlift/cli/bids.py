"""`mrlift-bids`: a BIDS-App. Its command line is the one that all BIDS-Apps have."""

import argparse
import sys
from pathlib import Path

from mrlift.errors import IncompleteError, InputError


def main() -> None:
    """Entry point: exit codes are those of `mrlift`."""
    from mrlift.cli import run_safely

    run_safely(lambda: run(parse(sys.argv[1:])))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; labels may follow one option, as other BIDS-Apps have it."""
    from mrlift._version import __version__

    parser = argparse.ArgumentParser(
        prog="mrlift-bids",
        description="Super-resolves the anatomical MR images of a BIDS data set into a BIDS "
        "derivative. For research only; not a medical device.",
    )
    parser.add_argument("bids_dir", type=Path, help="the data set")
    parser.add_argument("output_dir", type=Path, help="the derivative, for instance "
                        "BIDS_DIR/derivatives/mrlift")  # fmt: skip
    parser.add_argument(
        "analysis_level",
        choices=("participant", "group"),
        help="participant: upscale; group: summarise what all participants' runs have done",
    )
    parser.add_argument(
        "--participant-label", "--participant_label", nargs="+", metavar="LABEL", default=[],
        help="participants, with or without sub-; default: all",
    )  # fmt: skip
    parser.add_argument("--scale", type=int, help="in-plane factor; default: the model's, or 2")
    parser.add_argument("--model", help="shipped weights, or the path of an .onnx file")
    parser.add_argument("--n-cpus", "--n_cpus", type=int, metavar="N", help="default: all cores")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler instead")
    parser.add_argument(
        "--timeout", type=float, default=3600.0, help="seconds that one image may take"
    )
    parser.add_argument("--version", action="version", version=f"mrlift {__version__}")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Run one level.

    Raises:
        IncompleteError: images failed.
        InputError: no BIDS data set, or no such participant.
    """
    from mrlift.cli.archive import need_dask

    need_dask()
    from mrlift.archive.bids import is_bids

    if not is_bids(options.bids_dir):
        raise InputError(
            f"{options.bids_dir} is no BIDS data set: it has no dataset_description.json with a "
            "BIDSVersion. Check the path."
        )
    if options.analysis_level == "participant":
        _participants(options)
    else:
        _group(options.output_dir)


def _participants(options: argparse.Namespace) -> None:
    from mrlift.archive.cluster import connect
    from mrlift.archive.session import Session, settings_for
    from mrlift.archive.task import Limits
    from mrlift.cli.archive import progress
    from mrlift.cli.console import say
    from mrlift.inference.engines import cores
    from mrlift.io.facts import Selection

    settings = settings_for(
        options.bids_dir, options.output_dir, model=options.model, scale=options.scale
    )
    bad = 0
    with connect(options.scheduler, options.n_cpus or cores()) as client:
        for file, labels in _scopes(options, Path(settings.dest)):
            limits = Limits(options.timeout)
            with Session(settings, file, Selection(), limits, labels=labels) as session:
                with progress() as report:
                    session.run(client, report)
                counts = session.ledger.counts()
                told = ", ".join(f"{n} {s}" for s, n in sorted(counts.items()))
                say(f"{file.stem}: {told or 'no anatomical images'}")
                for row in session.ledger.bad():
                    say(f"  {row.path}: {row.reason}")
                bad += session.bad()
    if bad:
        raise IncompleteError(f"{bad} images failed, see above; the others are done.")


def _scopes(options: argparse.Namespace, dest: Path) -> list[tuple[Path, list[str]]]:
    """Ledgers, and the participants that each run takes.

    Participants that are named have a ledger each: a cluster runs one job for each of them, all at
    the same time. Without names there is one ledger for all, which keeps every core at work.
    """
    from mrlift.archive.ledger import ledger_file

    whole, labels = ledger_file(dest), _labels(options)
    alone = bool(options.participant_label) or any(whole.parent.glob("sub-*.sqlite"))
    if alone and not whole.exists():
        return [(ledger_file(dest, f"sub-{label}"), [label]) for label in labels]
    return [(whole, labels)]


def _labels(options: argparse.Namespace) -> list[str]:
    from mrlift.archive.bids import participants

    there = participants(options.bids_dir)
    wanted = [label.removeprefix("sub-") for label in options.participant_label]
    for label in wanted:
        if label not in there:
            raise InputError(
                f"There is no participant {label}; there are {len(there)}: "
                f"{', '.join(there[:10])}{' ...' if len(there) > 10 else ''}."
            )
    return wanted or there


def _group(dest: Path) -> None:
    from mrlift.archive.bids import SUMMARY
    from mrlift.archive.ledger import Ledger, ledger_file
    from mrlift.archive.summary import write_summary
    from mrlift.cli.console import say

    files = sorted(ledger_file(dest).parent.glob("*.sqlite"))
    ledgers = [Ledger(file) for file in files]
    if not ledgers:
        raise InputError(f"{dest} holds no results. Run the level participant first.")
    write_summary(ledgers, dest / SUMMARY)
    counts = [ledger.counts() for ledger in ledgers]
    done, bad = (
        sum(c.get(name, 0) for c in counts for name in names)
        for names in (("done",), ("failed", "quarantined"))
    )
    say(f"{dest / SUMMARY}: {len(ledgers)} ledgers, {done} images done, {bad} failed")
