"""The counts of the paper's split: so many series with so many slices to train and to test."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mrlift.errors import InputError

ATTEMPTS = 200


class By(StrEnum):
    """What is never on both sides of a split."""

    patient = "patient"
    series = "series"


@dataclass(frozen=True)
class Counts:
    """How many series with how many slices in all."""

    series: int
    slices: int


TRAIN = Counts(24, 548)  # Xia et al. 2020, section 3.1
TEST = Counts(28, 646)


@dataclass(frozen=True)
class Candidate:
    """A series that may be chosen."""

    uid: str
    patient: str
    slices: int


@dataclass(frozen=True)
class Split:
    """UIDs of the chosen series, each part ordered; the two have no series in common."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def paper_split(
    candidates: Sequence[Candidate],
    by: By = By.patient,
    seed: int = 0,
    train: Counts = TRAIN,
    test: Counts = TEST,
) -> Split:
    """Choose series at random so that both parts have exactly the given counts.

    The choice depends on `seed` and the UIDs alone, never on the order of `candidates`. The paper
    drew series; by patient, no patient gives series to both parts.

    Raises:
        InputError: the counts cannot be reached with these series, or no choice was found.
    """
    for name, part in (("train", train), ("test", test)):
        if _chosen(list(candidates), part) is None:
            raise InputError(_unreachable(candidates, name, part))
    for attempt in range(ATTEMPTS):
        rank = _ranking(f"{seed}/{attempt}")
        ordered = sorted(candidates, key=lambda c: rank(c.uid))
        if by is By.series:
            first = _chosen(ordered, train)
            taken = set(first or ())
            second = _chosen([c for c in ordered if c.uid not in taken], test)
        else:
            ours = _patients_to_train(candidates, rank, train.series / (train.series + test.series))
            first = _chosen([c for c in ordered if c.patient in ours], train)
            second = _chosen([c for c in ordered if c.patient not in ours], test)
        if first is not None and second is not None:
            return Split(tuple(sorted(first)), tuple(sorted(second)))
    raise InputError(
        f"No split by {by.value} with {train.series} series ({train.slices} slices) to train and "
        f"{test.series} ({test.slices}) to test was found among {len(candidates)} series of "
        f"{len({c.patient for c in candidates})} patients in {ATTEMPTS} attempts. Take more "
        "patients or another --seed."
    )


def _chosen(ordered: list[Candidate], counts: Counts) -> list[str] | None:
    """The first series in the given order that can still be completed to `counts`, or None.

    A subset sum with a fixed number of terms. Bit s of `reach[i][k]` says that k of the series
    from the i-th on can have s slices together.
    """
    everything = (1 << (counts.slices + 1)) - 1
    reach = [[1] + [0] * counts.series]
    for candidate in reversed(ordered):
        last = reach[-1]
        with_one = [(bits << candidate.slices) & everything for bits in last]
        reach.append([1, *(a | b for a, b in zip(last[1:], with_one, strict=False))])
    reach.reverse()
    wanted, slices, found = counts.series, counts.slices, []
    if not reach[0][wanted] >> slices & 1:
        return None
    for i, candidate in enumerate(ordered):
        rest = slices - candidate.slices
        if wanted and rest >= 0 and reach[i + 1][wanted - 1] >> rest & 1:
            found.append(candidate.uid)
            wanted, slices = wanted - 1, rest
    return found


def _patients_to_train(
    candidates: Sequence[Candidate], rank: Callable[[str], bytes], share: float
) -> set[str]:
    """Patients in random order until they have `share` of the series."""
    ours: set[str] = set()
    series = 0
    for patient in sorted({c.patient for c in candidates}, key=rank):
        if series >= share * len(candidates):
            break
        ours.add(patient)
        series += sum(c.patient == patient for c in candidates)
    return ours


def _ranking(salt: str) -> Callable[[str], bytes]:
    """An order that looks random, the same in every version of Python."""
    return lambda text: hashlib.sha256(f"{salt}/{text}".encode()).digest()


def _unreachable(candidates: Sequence[Candidate], name: str, part: Counts) -> str:
    sizes = sorted(c.slices for c in candidates)
    least = sum(sizes[: part.series])
    if len(sizes) < part.series or least <= part.slices:
        reason = "Take more patients."
    else:
        reason = (
            f"The {part.series} smallest of these have {least} slices: the paper's counts fit "
            "collections with about 23 slices in a series, as brain-tumor-progression has."
        )
    return (
        f"The paper's split needs {part.series} series with {part.slices} slices in all to {name}; "
        f"no choice from {len(sizes)} series has them. {reason}"
    )
