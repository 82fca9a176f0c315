"""Probes: what can be read from features is, what cannot is not."""

from __future__ import annotations

import numpy as np
import torch

from resight.models import create
from resight.studying.stages import pooled, probe_accuracy


def test_pooled_features_are_the_means_of_the_maps() -> None:
    net = create("preact_resnet8", num_classes=2).eval()
    batches = [torch.randn(3, 3, 28, 28), torch.randn(2, 3, 28, 28)]
    found = pooled(net, batches)
    assert list(found) == ["stem", "stage1", "stage2", "stage3", "features"]
    with torch.no_grad():
        out = net.features(torch.cat(batches))
    for name, values in found.items():
        np.testing.assert_allclose(values, out[name].mean((2, 3)).numpy(), atol=1e-5)
    np.testing.assert_allclose(found["features"], out["embedding"].numpy(), atol=1e-5)


def test_a_probe_reads_what_is_there_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    labels, held = random.integers(0, 3, 120), random.integers(0, 3, 300)
    centres = 4 * np.eye(3, 6)
    known, new = ((centres[y] + random.normal(size=(len(y), 6))).astype(np.float32) for y in (labels, held))
    assert probe_accuracy(known, labels, new, held, 3) > 0.9
    noise = random.normal(size=(120, 6)).astype(np.float32), random.normal(size=(300, 6)).astype(np.float32)
    assert abs(probe_accuracy(noise[0], labels, noise[1], held, 3) - 1 / 3) < 0.12
