"""Write the model card pages and the tables of weights from the cards and their results.

    python benchmarks/cards.py            # rewrites what has changed
    python benchmarks/cards.py --check    # names what is out of date; exit code 1 if anything is

Figures come from `src/mrlift/weights/*.json` and `benchmarks/results/quality-*.json` alone.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "reference" / "weights"
BEGIN, END = "<!-- table of weights: benchmarks/cards.py -->\n", "<!-- end -->\n"
DEGRADED = {
    "bicubic": "reduced with bicubic interpolation as by MATLAB's imresize",
    "kspace": "whose k-space was cut to its centre, with Rician noise",
}
LOSSES = {
    "absolute": "mean absolute error",
    "squared": "squared error",
    "sum": "squared error of y_hat alone",
    "decibels": "squared error in dB",
}
Record = dict[str, object]


def weights() -> list[tuple[dict, dict]]:
    """Card and results of each shipped set, by degradation, scale and size."""
    pairs = []
    for file in (ROOT / "src/mrlift/weights").glob("*.json"):
        card = json.loads(file.read_text())
        results = ROOT / "benchmarks/results" / f"quality-{card['name']}.json"
        pairs.append((card, json.loads(results.read_text())))
    return sorted(
        pairs,
        key=lambda p: (p[0]["degradation"], p[0]["scale"], -p[0]["network"]["parameters"]),
    )


def mean(results: dict, key: str) -> float:
    """Mean over series."""
    return sum(row[key] for row in results["series"]) / len(results["series"])


def table(folder: str) -> str:
    """One line a set of weights; `folder` is where the pages lie, as seen from the text."""
    lines = [
        "| weights | degradation | channels x units | mean gain over bicubic | over the series "
        "| gain over zero-filling | SSIM (bicubic) |",
        "|---|---|---|---|---|---|---|",
    ]
    for card, results in weights():
        gains = [row["gain"] for row in results["series"]]
        network = card["network"]
        sinc = "-"
        if card["degradation"] == "kspace":
            sinc = f"{mean(results, 'psnr') - mean(results, 'psnr_sinc'):+.2f} dB"
        lines.append(
            f"| [`{card['name']}`]({folder}/{card['name']}.md) | {card['degradation']} "
            f"| {network['channels']} x {network['units']} | {results['mean_gain']:+.2f} dB "
            f"| {min(gains):+.2f} to {max(gains):+.2f} dB | {sinc} "
            f"| {mean(results, 'ssim'):.4f} ({mean(results, 'ssim_bicubic'):.4f}) |"
        )
    return "\n".join(lines) + "\n"


def page(card: dict, results: dict) -> str:
    """The model card of one set of weights."""
    network, training = card["network"], card["training"]
    kspace = card["degradation"] == "kspace"
    started = ", then ".join(
        f"{s['lr_pixels'] / 1e6:.0f} million as `{s['name']}`" for s in training["start"]
    )
    low, high = card["spacing"]
    noise = training.get("noise", [0, 0])
    loss = LOSSES[training["loss"]] + (", slices balanced" if training.get("balance") else "")
    rows = [
        f"| {r['series']} | {r['slices']} | {r['psnr_bicubic']:.2f} "
        + (f"| {r['psnr_sinc']:.2f} " if kspace else "")
        + f"| {r['psnr']:.2f} | {r['gain']:+.2f} | {r['ssim_bicubic']:.4f} | {r['ssim']:.4f} |"
        for r in results["series"]
    ]
    total = sum(r["slices"] for r in results["series"])
    sinc_mean = f"| {mean(results, 'psnr_sinc'):.2f} " if kspace else ""
    heads = "| series | slices | bicubic dB |" + (" zero-filled dB |" if kspace else "")
    added = f" (standard deviation {noise[0]:g} to {noise[1]:g} of the 99.9th percentile)"
    lines = [
        f"# {card['name']}",
        "",
        f"x{card['scale']}, for images {DEGRADED[card['degradation']]}.",
        "",
        "| | |",
        "|---|---|",
        f"| network | {network['name']}: {network['channels']} channels, {network['units']} units, "
        f"{network['parameters']:,} parameters |",
        f"| grid | {card['grid']} |",
        f"| intensities | 1.0 is the {card['normalisation']} |",
        f"| trained on | {training['slices']:,} slices, {training['series']} series, "
        f"{training['patients']} patients; "
        f"{', '.join(training.get('contrasts', ['T1', 'T2', 'FLAIR']))}; "
        f"in-plane spacing {low:.2g} to {high:.2g} mm |",
        f"| made from | images {DEGRADED[card['degradation']]}{added if kspace else ''} |",
        f"| budget | {training['lr_pixels'] / 1e6:.3g} million LR pixels"
        + (f", after {started}" if started else "")
        + f"; {loss}, {training['optimiser']} at {training['learning_rate']:g}, "
        f"batches of {training['batch']} |",
        f"| licence | {card['licence']} |",
        f"| sha256 | `{card['sha256']}` |",
        "",
        "Data:",
        "",
        *(f"- {source}" for source in card["data"]),
        "",
        "## Figures",
        "On series that were never trained on, degraded as above"
        + (f" with noise of {results['noise']:g}" if kspace else "")
        + ". How: [measuring](../../explanation/measuring.md). "
        f"Command: `{results['command']}`; {results['machine']}, commit {results['commit']}, "
        f"{results['date']}.",
        "",
        f"{heads} mrlift dB | gain | SSIM bicubic | SSIM |",
        "|---" * (8 if kspace else 7) + "|",
        *rows,
        f"| mean over series | {total} | {mean(results, 'psnr_bicubic'):.2f} {sinc_mean}"
        f"| {mean(results, 'psnr'):.2f} | {results['mean_gain']:+.2f} "
        f"| {mean(results, 'ssim_bicubic'):.4f} | {mean(results, 'ssim'):.4f} |",
        "",
        "In training, on a patient held out:",
        "",
        *(f"- {name}: {value:+.2f}" for name, value in card["metrics"].items()),
        "",
        "## Limits",
        "Brains and magnitude images only. Detail below the resolution of the input is estimated "
        "from other heads and can be wrong. Not a medical device.",
    ]
    return "\n".join(lines) + "\n"


def with_table(file: Path) -> str:
    """The file's text with its table as it should be."""
    before, _, rest = file.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    folder = PAGES.relative_to(file.parent).as_posix()
    return f"{before}{BEGIN}{table(folder)}{END}{after}"


def wanted() -> dict[Path, str]:
    """All files that this script is responsible for, with what they should hold."""
    files = {PAGES / f"{card['name']}.md": page(card, results) for card, results in weights()}
    for file in (ROOT / "README.md", ROOT / "docs/reference/weights.md"):
        files[file] = with_table(file)
    return files


def main() -> int:
    """Write, or with --check only compare."""
    files = wanted()
    stale = [file for file, text in files.items() if not file.exists() or file.read_text() != text]
    stale += [file for file in PAGES.glob("*.md") if file not in files]
    for file in stale:
        print(file.relative_to(ROOT))
        if "--check" in sys.argv:
            continue
        if file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_text(files[file])
        else:
            file.unlink()
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
