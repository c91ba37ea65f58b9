"""The curves of a run: `curves.csv`, and TensorBoard's event file beside it."""

import csv
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

NAME = "curves.csv"


class Curves:
    """Writes a row per validation.

    The table is rewritten from the run's history when a run is resumed, so that rows of steps which
    were lost with a killed process do not stay.

    Args:
        folder: of the run.
        history: rows up to now.
        write: whether this process is the one that writes.
    """

    def __init__(self, folder: Path, history: list[dict[str, float]], *, write: bool) -> None:
        self._history, self._file = history, folder / NAME
        step = int(history[-1]["step"]) + 1 if history else 0
        self._board = SummaryWriter(str(folder), purge_step=step) if write else None

    def add(self, row: dict[str, float]) -> None:
        """Write the last row of the history."""
        part = self._file.with_name(f".{NAME}.part")
        with part.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(row))
            table.writeheader()
            table.writerows({k: r.get(k, "") for k in row} for r in self._history)
        part.replace(self._file)
        assert self._board is not None
        for name, value in row.items():
            if name not in ("step", "seconds_left"):
                self._board.add_scalar(name, value, int(row["step"]))
        self._board.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board is not None:
            self._board.close()
