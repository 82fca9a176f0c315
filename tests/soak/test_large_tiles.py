"""A picture of 100 megapixels is answered in memory that is bounded by its decoding."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.inference.tiled import tiled_run
from tests.inference.tiny import SIZE

from resight.images import Geometry

SIDE = 10_000
CODE = """
import json, resource, sys
from pathlib import Path
from resight.inference import Predictor
from resight.runs import Run
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
predictor = Predictor(Run.open(Path(sys.argv[1])), backend="onnxruntime", threads=1)
(small,) = predictor.predict([Path(sys.argv[2])])
before = peak()
(large,) = predictor.predict([Path(sys.argv[3])])
print(json.dumps({"grown": peak() - before, "errors": [small.error, large.error]}))
"""


@pytest.mark.soak
def test_100_megapixels_in_bounded_memory(tmp_path: Path) -> None:
    tiled_run(tmp_path / "run", fields={"geometry": Geometry("tiles", SIZE, SIZE, tile=160, stride=120)})
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE // 40, SIDE // 40, 3), dtype=np.uint8)
    whole = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    whole.save(tmp_path / "large.jpg")
    whole.crop((0, 0, 400, 400)).save(tmp_path / "small.jpg")
    del whole
    files = [str(tmp_path / name) for name in ("run", "small.jpg", "large.jpg")]
    done = subprocess.run([sys.executable, "-c", CODE, *files], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["errors"] == [None, None]
    # Pillow holds 4 bytes a pixel while the 3 that are kept are copied; then there are these 3 and one batch of tiles.
    assert found["grown"] < 7 * SIDE**2 + 200e6
