"""Large JPEGs: the same answer by path, bytes and data set, and exactly the old one for Runs of geometry version 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resight import samples as data_sets
from resight.images import Geometry, decode, decode_for
from resight.inference import Predictor

from .tiny import CLASSES, SIZE, make_run


@pytest.mark.parametrize("version", [1, 2])
def test_large_jpegs_get_one_answer_everywhere(tmp_path: Path, version: int) -> None:
    geometry = Geometry("crop", SIZE, SIZE, version=version)
    predictor = Predictor(make_run(tmp_path / "run", fields={"geometry": geometry}), backend="onnxruntime")
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        noise = random.integers(0, 256, (16 * SIZE, 17 * SIZE, 3), dtype=np.uint8)
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(noise).save(tmp_path / "data" / name / f"{number}.jpg", quality=90)
    samples = data_sets.load(tmp_path / "data", val_fraction=0, test_fraction=0, training=False)
    paths = [samples.path(sample) for sample in samples.samples]
    assert geometry.reduction(17 * SIZE, 16 * SIZE) == (1 if version == 1 else 8)
    squares = np.stack([geometry.apply(decode_for(geometry, path)) for path in paths])
    expected = predictor.run_pixels(squares).probabilities
    by_path = list(predictor.predict(paths, top=len(CLASSES)))
    by_bytes = list(predictor.predict([path.read_bytes() for path in paths], top=len(CLASSES)))
    for row, *answers in zip(expected, by_path, by_bytes, strict=True):
        for answer in answers:
            assert dict(answer.top or ()) == pytest.approx(dict(zip(CLASSES, row.tolist(), strict=True)), abs=1e-6)
    found = predictor.answers(samples, range(len(paths)))
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    full = np.stack([geometry.apply(decode(path)) for path in paths])
    assert (squares == full).all() == (version == 1)
