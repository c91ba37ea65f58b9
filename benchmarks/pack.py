"""Put exported weights into the package: packed, with their cards beside them.

    python benchmarks/pack.py FILE.onnx ... [--into FOLDER]

Each file needs its card (.json) beside it, which gives the name: CARDNAME.onnx.packed and
CARDNAME.json replace what is shipped under that name. `git add src/mrlift/weights` follows.
"""

import argparse
from pathlib import Path

from mrlift.inference.card import save_card
from mrlift.inference.packing import PACKED, pack, unpack
from mrlift.inference.zoo import SHIPPED, find_weights
from mrlift.io import replacing


def main() -> None:
    """Pack the files that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.onnx")
    parser.add_argument("--into", type=Path, default=SHIPPED, help="default: %(default)s")
    options = parser.parse_args()
    for file in options.files:
        if file.suffix != ".onnx":
            parser.error(f"expected names that end in .onnx, found {file}")
        card, weights = find_weights(file)
        packed = pack(weights)
        assert unpack(packed) == weights
        with (
            replacing(options.into / f"{card.name}.json", overwrite=True) as card_part,
            replacing(options.into / f"{card.name}{PACKED}", overwrite=True) as part,
        ):
            part.write_bytes(packed)
            save_card(card, card_part)
        print(f"{card.name}: {len(weights) / 1e6:.2f} MB packed into {len(packed) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
