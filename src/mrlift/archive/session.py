"""What `mrlift archive` and `mrlift-bids` share: settings, ledger, run, summary."""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from distributed import Client

from mrlift.archive import bids
from mrlift.archive.ledger import Ledger, ledger_file
from mrlift.archive.run import PERFORM, Progress, Run
from mrlift.archive.summary import write_summary
from mrlift.archive.task import Limits, Settings
from mrlift.errors import InputError, OutputError
from mrlift.inference.choice import choose
from mrlift.inference.degradation import Kind
from mrlift.inference.zoo import find_weights
from mrlift.io.facts import Selection


def settings_for(
    source: Path,
    dest: Path,
    *,
    model: str | None = None,
    scale: int | None = None,
    degradation: Kind | None = None,
    engine: str | None = None,
    nifti: bool = False,
    transfer_syntax: str = "explicit",
) -> Settings:
    """Settings of an archive; without `engine` that of its first run holds.

    SOURCE_DATE_EPOCH, if set, is the time of derivation that DICOM states.

    Raises:
        InputError: `source` is no folder.
        OutputError: `dest` is or lies where the source is, or is a foreign BIDS data set.
        ModelError: no such weights.
    """
    source, dest = source.resolve(), dest.resolve()
    if not source.is_dir():
        raise InputError(f"Expected a folder with series, found {source}.")
    data_set = bids.is_bids(source)
    inside = source in dest.parents
    if dest == source or dest in source.parents or (inside and not data_set):
        raise OutputError(
            f"The destination {dest} and the source {source} are one or lie within each other. "
            "Choose a place beside the source."
        )
    if data_set:
        bids.refuse_foreign(dest)
    card, _ = find_weights(model, scale, degradation)
    own = Path(model) if model and model.endswith(".onnx") else None
    return Settings(
        source=str(source),
        dest=str(dest),
        model=str(own.resolve()) if own else card.name,
        card=card.name,
        sha256=card.sha256,
        engine=engine or "",
        scale=card.scale,
        nifti=nifti,
        transfer_syntax=transfer_syntax,
        bids=data_set,
        created=float(os.environ.get("SOURCE_DATE_EPOCH") or int(time.time())),
    )


def with_engine(settings: Settings, known: Settings | None) -> Settings:
    """Another machine may have another engine for its fastest: one archive keeps to one."""
    if settings.engine:
        return settings
    if known is not None:
        return replace(settings, engine=known.engine)
    card, weights = find_weights(settings.model, settings.scale)
    return replace(settings, engine=choose(card, weights, 1)[0].engine)


class Session:
    """An archive that is open for a run.

    Args:
        settings: as wanted; those of the first run hold. The engine, if none is wanted, is the
            fastest of this machine on one core.
        ledger: its file; None takes the usual one of the destination.
        selection: which series; None takes those of the last run.
        limits: of a single one.
        labels: participants of a BIDS data set; None for all.

    Raises:
        ConfigError: the archive was begun with other settings.
        OutputError: the ledger cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Path | None,
        selection: Selection | None,
        limits: Limits,
        labels: list[str] | None = None,
    ) -> None:
        dest = Path(settings.dest)
        self.ledger = Ledger(ledger or ledger_file(dest), write=True)
        try:
            self._settings = self.ledger.settle(with_engine(settings, self.ledger.settings()))
        except BaseException:
            self.ledger.close()
            raise
        self._selection, self._limits = selection or self.ledger.selection(), limits
        self.ledger.select(self._selection)
        self._labels = labels
        if settings.bids and labels is None:
            self._labels = bids.participants(Path(settings.source))
        self.summary = dest / bids.SUMMARY

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.ledger.close()

    def run(
        self,
        client: Client,
        report: Callable[[Progress], None] | None = None,
        *,
        retry: str | None = None,
        target: str = PERFORM,
    ) -> Counter[str]:
        """Run, see `Run.go`; `retry` takes only what failed with this kind of error ("": any)."""
        only = None if retry is None else self.ledger.wait(retry)
        run = Run(
            client, self.ledger, self._settings, selection=self._selection, limits=self._limits,
            labels=self._labels, report=report, target=target,
        )  # fmt: skip
        return run.go(only)

    def summarise(self) -> None:
        """Write the closing summary."""
        write_summary([self.ledger], self.summary)

    def bad(self) -> int:
        """How many series have failed or are quarantined."""
        counts = self.ledger.counts()
        return counts.get("failed", 0) + counts.get("quarantined", 0)
