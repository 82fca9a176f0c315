"""Features are what the frozen network gives for the squares of the Run's own geometry, and for their mirror images."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.tiny import load, tiny_config, write_patterns

from resight.exporting.onnx import Answering
from resight.training import prepare, reading
from resight.transfer import features
from resight.transfer.features import embedder, features_of


@pytest.mark.parametrize(("channels", "worth"), [(3, 0), (3, math.inf), (1, math.inf)])
def test_features_are_the_networks_embeddings(
    channels: int, worth: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both through the runtime and by the network itself."""
    monkeypatch.setattr(features, "WORTH", worth)
    data = write_patterns(tmp_path / "data", each=5, height=40, width=31)
    if channels == 1:
        for path in data.glob("*/*.png"):
            Image.open(path).convert("L").save(path)
    samples = load(data)
    config = tiny_config(data, {"data.channels": channels, "data.mean": [0.3] * channels, "data.std": [0.2] * channels})
    net = prepare.build_net(config, 3, None, lambda _: None)
    pictures = reading.eval_pictures(samples, "train", config)
    indices = np.array([4, 0, 7], np.int64)
    with embedder(net, config, 3) as embed:
        assert embed.shared == (worth == 0)
        found = features_of(embed, pictures.__getitem__, indices, mirror=True)
        plain = features_of(replace(embed, threads=2), pictures.__getitem__, indices, mirror=False)
    geometry = reading.geometry_of(config)
    answering = Answering(net, config.data.mean, config.data.std, 1.0)
    for row, index in zip(found, indices, strict=True):
        square = geometry.apply(samples.read(samples.part("train")[index], channels, geometry=geometry))
        for view, pixels in zip(row, (square, square[:, ::-1].copy()), strict=True):
            with torch.inference_mode():
                expected = answering(torch.from_numpy(pixels)[None])[2][0].numpy()
            np.testing.assert_allclose(view, expected, atol=1e-5)
    assert found.shape == (3, 2, 64)
    np.testing.assert_allclose(plain, found[:, :1], atol=1e-6)
