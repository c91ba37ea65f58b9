"""Where results begin to draw warnings, how well that works, and what a card's weights have seen.

    python benchmarks/trust.py calibrate --data TRAIN --series PART... --model NAME... --json FILE
    python benchmarks/trust.py report --data TEST --model NAME... --json FILE
    python benchmarks/trust.py seen --data TRAIN --without PART... --model NAME...

`calibrate` takes validation patients, degrades and upscales their series, plants faults into the
results, and writes src/mrlift/quality/thresholds.json: each threshold lies between what the worst
right result and the mildest fault gave, at their geometric mean, but a quarter above the former at
least. `report` measures on patients who were not used for that. Both write all figures to FILE.
With --keep, weights that are not named stay in FILE as they were measured, with the same slices,
noise, faults and thresholds, if they are still those that are shipped. `seen` writes the range of
the training series into the cards of weights that lack it.

--series and --without choose by parts of file names.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mrlift import Volume, load, load_model, upscale
from mrlift.benchmark.comparison import compare
from mrlift.benchmark.lesions import middle_slices, shape_of, tissue
from mrlift.benchmark.quality import circumstances
from mrlift.inference.card import load_card, save_card
from mrlift.inference.degradation import degrade
from mrlift.inference.normalise import (
    FOREGROUND_LEVEL,
    FOREGROUND_SHARE,
    foreground_share,
    series_scale,
)
from mrlift.inference.traits import SAMPLED, traits
from mrlift.inference.zoo import SHIPPED
from mrlift.io import find_series, replacing
from mrlift.quality import back_project, consistency, ensemble, out_of_range
from mrlift.quality.thresholds import thresholds
from mrlift.volume import fit_dtype

LIMITS = Path(__file__).parents[1] / "src/mrlift/quality/thresholds.json"
NOISE = {"kspace": 0.01, "bicubic": 0.0}
LESIONS = [(d, c) for d in (3.0, 4.0, 6.0) for c in (0.15, 0.3)]  # mm, contrast
TRIALS = 8  # lesions of each kind and series
MULTIPLES = (1, 2, 3, 5)
FAULTS = {
    "shift": "shifted by half an SR voxel along one axis",
    "scale": "intensity scaled by 2 %",
    "patient": "another patient's image, at the same brightness",
}
AT_LEAST = 1.25  # times the worst right result: the least that a threshold is


def chosen(folder: Path, parts: list[str], without: list[str]) -> list[Path]:
    """Series whose names hold one of the parts, or all of them, and none of `without`."""
    paths = [p for p in find_series(folder) if not any(w in str(p) for w in without)]
    return [p for p in paths if not parts or any(part in str(p) for part in parts)]


def name_of(path: Path, folder: Path) -> str:
    """A series as results name it."""
    return path.relative_to(folder).as_posix().removesuffix(".gz").removesuffix(".nii")


def patient_of(path: Path, folder: Path) -> str:
    """Whose a series is: what its name begins with, or a folder that holds one patient."""
    if match := re.search(r"patient\d+|brain\d+", path.name):
        return match[0]
    return path.stem if path.parent == folder else path.parent.name


def with_slices(volume: Volume, stack: np.ndarray) -> Volume:
    """The volume with other slices of the same size, in its own type."""
    return replace(volume, voxels=volume.voxels_from_slices(fit_dtype(stack, volume.voxels.dtype)))


def shifted(sr: Volume, by: float) -> Volume:
    """Moved by a part of a voxel along the first in-plane axis, exactly, in k-space."""
    stack = sr.slices().astype(np.float64)
    ramp = np.exp(-2j * np.pi * np.fft.fftfreq(stack.shape[1]) * by)[:, None]
    return with_slices(sr, np.fft.ifft(np.fft.fft(stack, axis=1) * ramp, axis=1).real)


def of_another(sr: Volume, other: Volume) -> Volume:
    """The other result in the place of this one, cut or filled up at its centre."""
    stack, strange = sr.slices(), other.slices().astype(np.float64)
    strange = strange * (series_scale(stack) / series_scale(strange))
    result = np.zeros(stack.shape)
    pairs = list(zip(stack.shape, strange.shape, strict=True))
    here = tuple(slice(max(0, (a - b) // 2), max(0, (a - b) // 2) + min(a, b)) for a, b in pairs)
    there = tuple(slice(max(0, (b - a) // 2), max(0, (b - a) // 2) + min(a, b)) for a, b in pairs)
    result[here] = strange[there]
    return with_slices(sr, result)


def painted(sr: Volume, diameter: float, contrast: float, rng: np.random.Generator) -> Volume:
    """One lesion, bright or dark, painted into calm tissue of one slice."""
    stack = sr.slices().astype(np.float64)
    spacing = tuple(sr.spacing[a] for a in sr.in_plane_axes)
    order = rng.permutation(len(stack))
    for index in order:
        mean, calm = tissue(stack[index], series_scale(stack), spacing)
        if calm.any():
            spot = rng.permutation(np.argwhere(calm))[0]
            thickness = sr.spacing[sr.slice_axis]
            share = shape_of(calm.shape, tuple(map(float, spot)), diameter, spacing, thickness, rng)
            stack[index] += rng.choice((-1, 1)) * contrast * mean[tuple(spot)] * share
            break
    return with_slices(sr, stack)


def figures(lr: Volume, sr: Volume, card) -> dict:  # noqa: ANN001
    """What the tests of consistency say, and whether they warn."""
    found = consistency(lr, sr, card)
    return {
        "beyond": found.beyond,
        "bias": abs(found.bias),
        "shift": float(np.hypot(*found.shift)),
        "structure": found.structure.deviations,
        "nrmse": found.nrmse,
        "noise": found.noise / found.unit,
        "warnings": [f.kind for f in found.findings],
    }


def error_of_spread(hr: Volume, mean: Volume, spread: Volume, card) -> dict:  # noqa: ANN001
    """How the true error compares with the spread, in tissue."""
    truth = hr.cropped(tuple(mean.voxels.shape[a] for a in mean.in_plane_axes)).slices()
    inside = truth > FOREGROUND_LEVEL * series_scale(truth)
    error = np.abs(mean.slices().astype(np.float64) - truth)
    doubt = np.maximum(spread.slices(), 1e-6 * series_scale(truth))
    ratio = error[inside] / doubt[inside]
    side = 8
    rows, columns = (n // side * side for n in truth.shape[1:])

    def blocks(stack: np.ndarray) -> np.ndarray:
        parts = stack[:, :rows, :columns].reshape(len(stack), rows // side, side, -1, side)
        return parts.mean(axis=(2, 4)).ravel()

    full = blocks(inside.astype(float)) > 0.9
    ranks = [np.argsort(np.argsort(blocks(x)[full])) for x in (error, doubt)]
    limits = thresholds()
    return {
        "within": {str(k): float(np.mean(ratio <= k)) for k in MULTIPLES},
        "factor": {str(p): float(np.percentile(ratio, p)) for p in (68, 95)},
        "within_calibrated": {
            str(p): float(np.mean(ratio <= limits.spread_factor(card.name, p))) for p in (68, 95)
        },
        "rank_correlation": float(np.corrcoef(*ranks)[0, 1]),
    }


def part(volume: Volume, count: int) -> Volume:
    """The middle slices of a volume."""
    total = volume.voxels.shape[volume.slice_axis]
    first = max(0, (total - count) // 2)
    taken = np.arange(first, min(total, first + count))
    return replace(volume, voxels=np.take(volume.voxels, taken, volume.slice_axis))


def measure(
    paths: list[Path], folder: Path, name: str, slices: int, spread_slices: int
) -> Iterator[dict]:
    """Everything about one set of weights, series by series."""
    model = load_model(name)
    card, rng = model.card, np.random.default_rng(0)
    pairs = []
    for path in paths:
        hr = middle_slices(load(path), slices)
        lr = degrade(
            hr, card.scale, card.degradation, grid=card.grid, noise=NOISE[card.degradation]
        )
        pairs.append((path, hr, lr, upscale(lr, model=model)))
        print(f"{name} {name_of(path, folder)}: upscaled", file=sys.stderr)
    for number, (path, hr, lr, sr) in enumerate(pairs):
        near = back_project(lr, sr, card)
        few_hr, few_lr = part(hr, spread_slices), part(lr, spread_slices)
        both, one = ensemble(few_lr, model), upscale(few_lr, model=model)
        psnr = [compare(v, hr, foreground=0).mean["psnr"] for v in (sr, near)]
        gain = [compare(v, few_hr, foreground=0).mean["psnr"] for v in (one, both.mean)]
        others = [p for p in pairs if patient_of(p[0], folder) != patient_of(path, folder)]
        stranger = others[number % len(others)][3]
        planted = {
            "shift": figures(lr, shifted(sr, 0.5), card),
            "scale": figures(lr, with_slices(sr, sr.slices() * 1.02), card),
            "patient": figures(lr, of_another(sr, stranger), card),
        }
        lesions = [
            {"diameter": d, "contrast": c} | figures(lr, painted(sr, d, c, rng), card)
            for d, c in LESIONS
            for _ in range(TRIALS)
        ]
        print(f"{name} {name_of(path, folder)}: measured", file=sys.stderr)
        yield {
            "series": name_of(path, folder),
            "slices": lr.slice_count,
            "real": figures(lr, sr, card),
            "faults": planted,
            "lesions": lesions,
            "psnr": psnr[0],
            "ensemble_gain": gain[1] - gain[0],
            "consistent_gain": psnr[1] - psnr[0],
            "beyond_after_consistent": consistency(lr, near, card).beyond,
            "spread": error_of_spread(few_hr, both.mean, both.spread, card),
            "out_of_range": [f.kind for f in out_of_range(lr, card)],
        }


def measured(options: argparse.Namespace, limits: dict[str, float]) -> dict:
    """The record of all weights; `limits` are those that its warnings count by."""
    paths = chosen(options.data, options.series, options.without)
    command = "python benchmarks/trust.py " + " ".join(
        Path(a).name if "/" in a else a for a in sys.argv[1:]
    )
    now = circumstances(command)
    way = {
        "slices": f"at most {options.slices} of each series, evenly from its middle; for ensemble "
        f"and spread the middle {options.spread_slices} of these",
        "noise": NOISE,
        "faults": FAULTS,
    }
    models = kept(options.json, way | limits) if options.keep else {}
    for name in options.model:
        rows = list(measure(paths, options.data, name, options.slices, options.spread_slices))
        sha256 = load_model(name).card.sha256
        models[name] = {"sha256": sha256, "measured": now, "series": rows, "all": summed(rows)}
    return now | way | {"models": models}


def kept(file: Path, way: dict) -> dict[str, dict]:
    """The figures in `file` of weights that are still the same, with how they were measured."""
    record = json.loads(file.read_text(encoding="utf-8"))
    known = record | record["thresholds"]
    if other := [key for key in way if known[key] != way[key]]:
        raise SystemExit(f"{file} was measured with other {', '.join(other)}; leave --keep out.")
    told = {k: record[k] for k in ("command", "date", "commit", "machine", "version")}
    cards = {name: SHIPPED / f"{name}.json" for name in record["models"]}
    return {
        name: {"measured": told} | record["models"][name]
        for name, card in cards.items()
        if card.exists() and record["models"][name]["sha256"] == load_card(card).sha256
    }


def summed(rows: list[dict]) -> dict:
    """Rates and means over series."""
    lesions = [x for r in rows for x in r["lesions"]]
    warned = [bool(r["real"]["warnings"]) for r in rows]
    return {
        "series": len(rows),
        "passed": len(rows) - sum(warned),
        "detected": {
            k: float(np.mean([bool(r["faults"][k]["warnings"]) for r in rows])) for k in FAULTS
        },
        "lesions_detected": [
            {
                "diameter": d,
                "contrast": c,
                "lesions": len(group),
                "detected": float(np.mean([bool(x["warnings"]) for x in group])),
            }
            for d, c in LESIONS
            if (group := [x for x in lesions if (x["diameter"], x["contrast"]) == (d, c)])
        ],
        "ensemble_gain": float(np.mean([r["ensemble_gain"] for r in rows])),
        "consistent_gain": float(np.mean([r["consistent_gain"] for r in rows])),
        "within": {
            str(k): float(np.mean([r["spread"]["within"][str(k)] for r in rows])) for k in MULTIPLES
        },
        "within_calibrated": {
            p: float(np.mean([r["spread"]["within_calibrated"][p] for r in rows]))
            for p in ("68", "95")
        },
        "rank_correlation": float(np.mean([r["spread"]["rank_correlation"] for r in rows])),
    }


def found_limits(record: dict) -> dict:
    """Thresholds between the worst right result and the mildest fault."""
    rows = [r for m in record["models"].values() for r in m["series"]]
    mildest = {
        "beyond": min(r["faults"]["patient"]["beyond"] for r in rows),
        "bias": min(r["faults"]["scale"]["bias"] for r in rows),
        "shift": min(r["faults"]["shift"]["shift"] for r in rows),
        # Noise hides some: a tenth of the lesions of 4 mm and 30 % may be weaker.
        "structure": float(
            np.percentile(
                [
                    x["structure"]
                    for r in rows
                    for x in r["lesions"]
                    if (x["diameter"], x["contrast"]) == (4.0, 0.3)
                ],
                10,
            )
        ),
    }
    limits = {}
    for key, mild in mildest.items():
        worst = max(r["real"][key] for r in rows)
        limits[key] = float(f"{max(AT_LEAST * worst, np.sqrt(worst * mild)):.2g}")
        print(f"{key}: worst right result {worst:.4g}, mildest fault {mild:.4g}", file=sys.stderr)
    return limits


def calibrate(options: argparse.Namespace) -> None:
    """Write the thresholds and the figures that they come from."""
    record = measured(options, {})  # its warnings are not used: the limits come from the figures
    limits = found_limits(record)
    names = sorted({r["series"] for m in record["models"].values() for r in m["series"]})
    factors = {
        name: {
            str(p): round(float(np.mean([r["spread"]["factor"][str(p)] for r in m["series"]])), 2)
            for p in (68, 95)
        }
        for name, m in record["models"].items()
    }
    summary = (
        f"On {len(names)} series of validation and training patients ({', '.join(names)}), "
        f"degraded and upscaled with {len(factors)} sets of weights: each limit lies between the "
        "worst right result and the mildest planted fault."
    )
    ways = [m["measured"] for m in record["models"].values()]
    told = {
        k: "; ".join(dict.fromkeys(way[k] for way in ways))
        for k in ("command", "date", "commit", "machine")
    } | {"slices": record["slices"]}
    written = limits | {"spread": factors, "source": {"summary": summary, **told}}
    for file, content in ((LIMITS, written), (options.json, record | {"thresholds": written})):
        write(file, content)


def report(options: argparse.Namespace) -> None:
    """Write the figures of series that nothing was calibrated on."""
    limits = json.loads(LIMITS.read_text(encoding="utf-8"))
    record = measured(options, {k: v for k, v in limits.items() if k not in ("spread", "source")})
    write(options.json, record | {"thresholds": limits})


def seen(options: argparse.Namespace) -> None:
    """Write the range of the training series into cards."""
    series = [load(path) for path in chosen(options.data, options.series, options.without)]
    few = [with_tissue(volume) for volume in series]
    known: dict[tuple, dict[str, list[float]]] = {}  # weights of one problem have seen the same
    for name in options.model:
        file = SHIPPED / f"{name}.json"
        card = load_card(file)
        noises = sorted(set(card.training.get("noise", [0.0])))
        problem = (card.scale, card.degradation, card.grid, *noises)
        if problem not in known:
            known[problem] = figures_of(few, card, noises)
        found = known[problem]
        ranges = {k: (round(min(v), 4), round(max(v), 4)) for k, v in found.items()}
        with replacing(file, overwrite=True) as part:
            save_card(replace(card, seen=ranges), part)
        print(name, ranges)


def figures_of(series: list[Volume], card, noises: list[float]) -> dict[str, list[float]]:  # noqa: ANN001
    """Matrix and traits of all series, degraded as for the card."""
    found: dict[str, list[float]] = {"matrix": []}
    for hr in series:
        for noise in noises:
            lr = degrade(hr, card.scale, card.degradation, grid=card.grid, noise=noise)
            found["matrix"] += [lr.voxels.shape[a] for a in lr.in_plane_axes]
            for key, value in traits(lr.slices()).items():
                found.setdefault(key, []).append(value)
    return found


def with_tissue(volume: Volume) -> Volume:
    """Slices with enough foreground to be trained on, as many as traits are taken from."""
    stack = np.moveaxis(volume.voxels, volume.slice_axis, 0)
    unit = series_scale(volume.voxels)
    full = np.flatnonzero([foreground_share(s, unit) >= FOREGROUND_SHARE for s in stack])
    evenly = full[np.linspace(0, len(full) - 1, min(SAMPLED, len(full))).round().astype(int)]
    return replace(volume, voxels=np.take(volume.voxels, evenly, volume.slice_axis))


def write(file: Path, content: dict) -> None:
    """A JSON file, whole or not at all."""
    with replacing(file, overwrite=True) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    for work in (calibrate, report, seen):
        command = commands.add_parser(work.__name__, help=work.__doc__)
        command.add_argument("--data", type=Path, required=True)
        command.add_argument("--series", nargs="*", default=[])
        command.add_argument("--without", nargs="*", default=[])
        command.add_argument("--model", nargs="+", required=True)
        if work is not seen:
            command.add_argument("--slices", type=int, default=6)
            command.add_argument("--spread-slices", type=int, default=2)
            command.add_argument("--json", type=Path, required=True)
            command.add_argument("--keep", action="store_true")
        command.set_defaults(work=work)
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
