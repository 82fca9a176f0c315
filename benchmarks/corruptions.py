"""What the corruptions of ``resight eval --corruptions`` look like, and how long each takes.

    python benchmarks/corruptions.py PICTURE                     milliseconds of each kind at 224 and 32 px, one thread
    python benchmarks/corruptions.py PICTURE --sheet OUT.png     instead all kinds and severities on one sheet

Milliseconds of processor time, means over five severities and ten seeds, after calls that fill the tables of filters;
set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from common import machine
from resight.evaluation.corruptions import KINDS, SEVERITIES, corrupt
from resight.images import center_crop, decode, resize_short

CELL, MARGIN, LABEL, TOP, COLUMNS, SEEDS = 76, 3, 94, 14, 2, 10


def square(path: Path, side: int) -> np.ndarray:
    return center_crop(resize_short(decode(path), side), side)


def milliseconds(pixels: np.ndarray, kind: str) -> float:
    cases = [(severity, seed) for severity in SEVERITIES for seed in range(SEEDS)]
    for severity in SEVERITIES:
        corrupt(pixels, kind, severity)
    start = time.process_time()
    for severity, seed in cases:
        corrupt(pixels, kind, severity, seed)
    return 1000 * (time.process_time() - start) / len(cases)


def sheet(pixels: np.ndarray) -> Image.Image:
    """Two blocks of rows, one for each kind: clean, then severities 1 … 5."""
    rows = -(-len(KINDS) // COLUMNS)
    block = LABEL + (1 + len(SEVERITIES)) * (CELL + MARGIN)
    canvas = Image.new("RGB", (COLUMNS * block, TOP + rows * (CELL + MARGIN)), "white")
    pen = ImageDraw.Draw(canvas)
    for place, name in enumerate(["clean", *map(str, SEVERITIES)] * COLUMNS):
        column, x = divmod(place, 1 + len(SEVERITIES))
        pen.text((column * block + LABEL + x * (CELL + MARGIN) + CELL // 2, 0), name, fill="black", anchor="ma")
    for number, kind in enumerate(KINDS):
        column, row = divmod(number, rows)
        y = TOP + row * (CELL + MARGIN)
        pen.text((column * block + 4, y + CELL // 2 - 6), kind.replace("_", " "), fill="black")
        versions = [pixels, *(corrupt(pixels, kind, severity) for severity in SEVERITIES)]
        for place, version in enumerate(versions):
            image = Image.fromarray(version[:, :, 0] if version.shape[2] == 1 else version).convert("RGB")
            small = pixels.shape[0] < CELL
            image = image.resize((CELL, CELL), Image.Resampling.NEAREST if small else Image.Resampling.BILINEAR)
            canvas.paste(image, (column * block + LABEL + place * (CELL + MARGIN), y))
    return canvas.quantize(112)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", type=int, default=224, help="side of the square on the sheet")
    parser.add_argument("--sheet", type=Path, help="a PNG to write")
    options = parser.parse_args()
    if options.sheet:
        sheet(square(options.picture, options.size)).save(options.sheet, optimize=True)
        return
    found = {side: [milliseconds(square(options.picture, side), kind) for kind in KINDS] for side in (224, 32)}
    print(machine(1))
    print("| kind | 224 px | 32 px |\n|---|---|---|")
    for kind, large, small in zip(KINDS, found[224], found[32], strict=True):
        print(f"| {kind} | {large:.1f} ms | {small:.2f} ms |")
    total = [sum(column) * len(SEVERITIES) for column in found.values()]
    print(f"| all 75 | {total[0]:.0f} ms | {total[1]:.0f} ms |")


if __name__ == "__main__":
    main()
