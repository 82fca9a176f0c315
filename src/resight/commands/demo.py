"""``resight demo``: the whole way in about a minute, on real data that scikit-learn carries."""

from __future__ import annotations

import sys
from pathlib import Path

from resight.commands.extras import need
from resight.runs import Run


def write_digits(root: Path) -> Path:
    """scikit-learn's 1,797 handwritten digits (8×8, 17 grey levels) as PNG files, one folder a class.

    The files are written once; a folder that is complete already is left alone.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = root / str(label) / f"{number:04d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 255 / 16).round().astype(np.uint8)).save(path)
    return root


def demo(out: str | Path = "runs/demo", *, epochs: float = 8) -> Run:
    """Writes the digits as image files, trains on them, evaluates, predicts one picture, says what to try next."""
    need("the demo", "train", "torch", "sklearn", "pydantic")
    from resight.commands.predict import predict
    from resight.commands.train import train

    out = Path(out)
    data = write_digits(out / "digits")
    number = 1
    while (out / f"run-{number}").exists():
        number += 1
    _say(f"1,797 real handwritten digits lie in {data}, one folder a class. Training a ResNet-20 on them …\n")
    # A mirrored digit is another digit, or none: no flips.
    run = train(data, model="resnet20", epochs=epochs, out=out / f"run-{number}", set={"augment.flip": "none"})
    low, high = run.metrics.interval("accuracy")
    _say(f"\ntest accuracy {100 * run.metrics.top1:.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %\n")
    picture = data / "7" / "0007.png"
    answer = predict(run, picture, top=1)[0]
    _say(f"one picture: {picture} is a {answer.label} with probability {answer.probability:.3f}\n")
    _say(
        f"The Run, everything in one directory: {run.path}\nTry next:\n"
        f"  resight predict {run.path} {data}/3 --top 3\n"
        f"  resight eval {run.path} --json\n"
        f"  resight explain {run.path} {data}/3/0003.png\n"
        f"  resight doctor {data}\n"
        f"  resight train YOUR_FOLDER"
    )
    return run


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
