"""`mrlift data download`: native anatomical MR of a public collection."""

from collections import defaultdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrlift.cli.console import progress, say, show_table
from mrlift.errors import OutputError

if TYPE_CHECKING:
    from mrlift.collections.index import IndexedSeries, Source
    from mrlift.collections.selection import Selection

    Parts = dict[str, list[IndexedSeries]]


class Split(StrEnum):
    """Which series are to train and which to test."""

    paper = "paper"


class By(StrEnum):
    """What is never on both sides of a split."""

    patient = "patient"
    series = "series"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(download)


def download(
    collection: Annotated[
        str,
        typer.Argument(
            help="remind, vestibular-schwannoma-seg, upenn-gbm, brain-tumor-progression, or any "
            "other of the Imaging Data Commons."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the collection.")],
    patients: Annotated[
        int | None, typer.Option("--patients", min=1, help="Only the first so many patients.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fetched; write nothing.")
    ] = False,
    processed: Annotated[
        bool, typer.Option("--processed", help="Also series that say they were processed.")
    ] = False,
    any_licence: Annotated[
        bool, typer.Option("--any-licence", help="Also series under other licences than CC BY.")
    ] = False,
    split: Annotated[
        Split | None,
        typer.Option("--split", help="paper: 24 series (548 slices) to train, 28 (646) to test."),
    ] = None,
    split_by: Annotated[
        By,
        typer.Option("--split-by", help="series: as the paper did; patient: none on both sides."),
    ] = By.patient,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the split.")] = 0,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint-url", metavar="URL", help="Where the buckets are, if not at Amazon."
        ),
    ] = None,
) -> None:
    """Fetch the native anatomical MR series of COLLECTION.

    Their licence is written beside them. What is there already is not fetched again: after an
    interruption run the same command once more. Needs the extra `collections`.
    """
    from mrlift.collections import provenance
    from mrlift.collections.by_hand import BY_HAND, read_by_hand
    from mrlift.collections.index import index_version, read_collection, sources
    from mrlift.collections.selection import select
    from mrlift.collections.transfer import AWS, fetch

    name = collection.lower().replace("_", "-")
    by_hand = BY_HAND.get(name)
    if by_hand:
        everything = read_by_hand(name, output)
        # What is there is registered, and its terms are those that the user has agreed to.
        processed = any_licence = True
        origin = "Fetched by hand from The Cancer Imaging Archive."
    else:
        everything = read_collection(name)
        origin = f"Found in the index of the Imaging Data Commons, version {index_version()}."
    chosen = select(everything, processed=processed, any_licence=any_licence, patients=patients)
    parts: Parts = {}
    if split:
        chosen, parts = _split(chosen, split_by, seed)
    taken = {one.uid for one in chosen.series}
    present = [s for s in everything if s.uid in taken or (output / s.folder).is_dir()]
    found = {(by_hand.doi, by_hand.licence): by_hand} if by_hand else sources(present)
    _show(name, chosen, list(found.values()), parts)
    provenance.refuse_other_collection(output, found.values())
    if dry_run:
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create {output}: {error.strerror}.") from error
    provenance.write_sources(output, present, found, origin)
    if parts:
        folders = {part: [(s.folder, s.images) for s in members] for part, members in parts.items()}
        provenance.write_split(output, "paper", split_by.value, seed, folders)
    if not by_hand:
        with progress(f"{name} (MB)") as report:
            fetch(chosen.series, output, endpoint=endpoint or AWS, progress=report)
    say(f"{output}: {len(chosen.series)} series; licence and citation in {provenance.LICENCE}")


def _split(chosen: "Selection", by: By, seed: int) -> "tuple[Selection, Parts]":
    """The series of the paper's split alone, and which part each is in."""
    from mrlift.collections.split import By as SplitBy
    from mrlift.collections.split import Candidate, paper_split

    split = paper_split(
        [Candidate(s.uid, s.patient, s.images) for s in chosen.series], SplitBy(by), seed
    )
    uids = {"train": set(split.train), "test": set(split.test)}
    parts = {part: [s for s in chosen.series if s.uid in uids[part]] for part in uids}
    return chosen.only(uids["train"] | uids["test"], "not in the split"), parts


def _show(name: str, chosen: "Selection", found: "list[Source]", parts: "Parts") -> None:
    """Print what was chosen, of which kinds, and what was left out."""
    from rich.table import Table

    kinds: dict[str, list[IndexedSeries]] = defaultdict(list)
    for one, kind in chosen.chosen:
        kinds[kind].append(one)
    table = Table("kind", box=None)
    for column in ("patients", "series", "images", "MB"):
        table.add_column(column, justify="right")
    for kind, members in sorted(kinds.items(), key=lambda item: -len(item[1])):
        table.add_row(kind, *_counts(members))
    table.add_section()
    table.add_row("all", *_counts(chosen.series))
    say(name)
    for source in found:
        say(f"  {source.name}\n  {source.licence}, {source.url}")
    show_table(table)
    for part, members in parts.items():
        say(f"to {part}: {len(members)} series, {sum(s.images for s in members)} slices")
    for reason, number in chosen.left_out.most_common():
        say(f"left out: {number} {reason}")


def _counts(series: "list[IndexedSeries]") -> list[str]:
    patients = len({one.patient for one in series})
    images, megabytes = sum(s.images for s in series), sum(s.megabytes for s in series)
    numbers = (patients, len(series), images, megabytes)
    return [f"{number:,.0f}" for number in numbers]
