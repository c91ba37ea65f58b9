"""The closing summary: one HTML file that needs nothing else."""

from collections import Counter
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import jinja2

from mrlift._version import __version__
from mrlift.archive.ledger import Ledger
from mrlift.errors import InputError
from mrlift.io import replacing

LISTED = 1000  # failed series at most; a browser has to hold them
ORDER = ("done", "skipped", "failed", "quarantined", "running", "waiting")


def write_summary(ledgers: list[Ledger], file: Path) -> None:
    """Write what became of all series, over one ledger or over those of several participants.

    Raises:
        InputError: no run has been made yet.
        OutputError: `file` cannot be written.
    """
    settings = next((s for ledger in ledgers if (s := ledger.settings())), None)
    if settings is None:
        raise InputError(f"No run has been made yet: {file} would be empty.")
    counts = Counter[str]()
    errors = Counter[tuple[str, str]]()
    examples: dict[tuple[str, str], str] = {}
    for ledger in ledgers:
        counts.update(ledger.counts())
        for status, error, count, example in ledger.errors():
            errors[status, error] += count
            examples.setdefault((status, error), example)
    bad = [row for ledger in ledgers for row in ledger.bad(LISTED)][:LISTED]
    worst = sorted(errors.items(), key=lambda item: (item[0][0] == "skipped", -item[1]))
    values = {
        "settings": settings,
        "version": __version__,
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "total": counts.total(),
        "counts": counts,
        "states": [(s, counts[s]) for s in ORDER if counts[s]],
        "cards": _cards(ledgers),
        "errors": [(*key, count, examples[key]) for key, count in worst],
        "bad": bad,
        "bad_total": counts["failed"] + counts["quarantined"],
    }
    page = resources.files("mrlift.archive").joinpath("summary.html.j2").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    with replacing(file, overwrite=True) as part:
        part.write_text(environment.from_string(page).render(values), encoding="utf-8")


def _cards(ledgers: list[Ledger]) -> list[tuple[str, str]]:
    """Figures of all that is done, and of the last run."""
    done, slices, *parts = (
        sum(values) for values in zip(*(x.seconds() for x in ledgers), strict=True)
    )
    total = sum(parts)
    paces = [p for p in (ledger.pace() for ledger in ledgers) if p]
    cards = [
        (f"{slices:,}", "slices"),
        (duration(total), "of computing"),
        (f"{total / done:.1f} s" if done else "-", "a series"),
    ]
    if len(paces) == 1:
        cards += [
            (duration(paces[0].seconds), f"last run, {paces[0].cores} cores"),
            (f"{paces[0].per_hour:,.0f}", "series an hour"),
        ]
    if total:
        cards.append((f"{100 * parts[1] / total:.0f} %", "of it in the network"))
    return cards


def duration(seconds: float) -> str:
    """Seconds in words of at most two units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
