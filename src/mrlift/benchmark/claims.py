"""What the paper says of its figures, put to the test by ours.

A claim on quality holds if the 95 % bootstrap interval of the paired difference, over patients,
lies above zero; it does not hold if the mean difference is below zero; between the two, or with
fewer than three patients, it is left open. A claim on time compares medians.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from mrlift.benchmark.published import PAPER, TABLE_1, TABLE_2, TABLE_3
from mrlift.benchmark.results import Mean, Results, mean
from mrlift.benchmark.tables import SCALES, Table, name

FEWEST = 3  # patients
HOLDS, OPEN, FAILS = "holds", "open", "does not hold"


def claims(results: Results) -> Table:
    """Each claim that the results are enough for, the evidence, and whether it holds."""
    rows = [*_best(results), *_beats_bicubic(results), *_others(results)]
    rows += [*_order(results), *_upsampling(results), *_time(results), *_today(results)]
    columns = ("the paper's claim", "here", "evidence")
    return Table("The paper's claims under this protocol.", columns, tuple(rows), words=True)


def _whole(results: Results) -> list[int]:
    """The scales at which every row of Table 2 is there: what is said of all needs all."""
    return [s for s in SCALES if set(TABLE_2[s]) <= set(results.methods(s))]


def _best(results: Results) -> Iterator[tuple[str, str, str]]:
    """Section 3.4: the multi-resolution network is the best of the seven methods."""
    for scale in _whole(results):
        rival = [m for m in results.methods(scale) if m in PAPER and m != "mrl"][-1]
        verdict, evidence = _paired(results, "mrl", rival, scale)
        yield f"Best of all methods at x{scale}", verdict, evidence


def _beats_bicubic(results: Results) -> Iterator[tuple[str, str, str]]:
    for scale in _whole(results):
        worst = next(m for m in results.methods(scale) if m in PAPER and m != "bicubic")
        verdict, evidence = _paired(results, worst, "bicubic", scale)
        yield f"Every network is better than bicubic at x{scale}", verdict, evidence


def _others(results: Results) -> Iterator[tuple[str, str, str]]:
    """Section 3.4's sentences on the other networks; the first contradicts its own Table 2."""
    for scale in SCALES:
        networks = [m for m in results.methods(scale) if m in PAPER and m not in ("bicubic", "mrl")]
        if scale in _whole(results):
            worst = next(m for m in networks if m != "srcnn")
            verdict, evidence = _paired(results, worst, "srcnn", scale)
            yield f"SRCNN is the worst network at x{scale} (text)", verdict, evidence
        deep = [m for m in networks if m in ("de-cnn", "fscwn")]
        shallow = [m for m in networks if m in ("espcn", "fsrcnn")]
        if deep and shallow:
            verdict, evidence = _paired(results, deep[0], shallow[-1], scale)
            names = " and ".join(name(m) for m in sorted(deep))
            yield f"{names} better than ESPCN and FSRCNN at x{scale} (text)", verdict, evidence


def _order(results: Results) -> Iterator[tuple[str, str, str]]:
    """The order of the columns of Table 2 by PSNR."""
    for scale in _whole(results):
        ours = [m for m in results.methods(scale) if m in TABLE_2[scale]]
        theirs = sorted(ours, key=lambda m: TABLE_2[scale][m][0])
        evidence = " < ".join(name(m) for m in ours)
        said = " < ".join(name(m) for m in theirs)
        yield f"Order at x{scale}: {said}", HOLDS if ours == theirs else FAILS, evidence


def _upsampling(results: Results) -> Iterator[tuple[str, str, str]]:
    """Table 1."""
    words = {
        "mrl-double": "Double upsampling is better than single",
        "mrl": "Multi-resolution is better than double upsampling",
    }
    for worse, better in pairwise(TABLE_1):
        if (worse, 2) in results.quality and (better, 2) in results.quality:
            verdict, evidence = _paired(results, better, worse, 2)
            yield f"{words[better]} at x2", verdict, evidence


def _time(results: Results) -> Iterator[tuple[str, str, str]]:
    """The order of the rows of Table 3, and what it falls with."""
    for (scale, size), record in sorted(results.times.items()):
        seconds = {m: e["seconds"] for m, e in record["networks"].items() if m in TABLE_3[scale]}
        if set(seconds) != set(TABLE_3[scale]):
            continue
        ours = sorted(seconds, key=lambda m: seconds[m])
        theirs = sorted(seconds, key=lambda m: TABLE_3[scale][m])
        evidence = " < ".join(f"{name(m)} {seconds[m]:.3f} s" for m in ours)
        said = " < ".join(name(m) for m in theirs)
        verdict = HOLDS if ours == theirs else FAILS
        yield f"Order of time at x{scale} (HR {size}): {said}", verdict, evidence


def _today(results: Results) -> Iterator[tuple[str, str, str]]:
    """What the paper could not claim: networks that came after it, or from another field."""
    for scale in SCALES:
        for other in results.methods(scale):
            if other not in PAPER and ("mrl", scale) in results.quality:
                verdict, evidence = _paired(results, "mrl", other, scale)
                yield f"Not claimed: better than {name(other)} at x{scale}", verdict, evidence


def _paired(results: Results, better: str, worse: str, scale: int) -> tuple[str, str]:
    """Verdict and evidence on one method being better than another."""
    difference = results.gain(better, scale, over=worse)
    quality = results.quality[better, scale]
    each = quality.by_patient(difference)
    patients = mean(each)
    slices = mean(difference)
    share = float(np.mean(difference > 0))
    evidence = (
        f"{name(better)} over {name(worse)}: {_text(patients)} over patients, {_text(slices)} over "
        f"slices; better in {share:.0%} of slices"
    )
    if patients.value < 0:
        return FAILS, evidence
    return HOLDS if patients.low > 0 and len(each) >= FEWEST else OPEN, evidence


def _text(value: Mean) -> str:
    return f"{value.value:+.3f} dB [{value.low:+.3f}, {value.high:+.3f}]"
