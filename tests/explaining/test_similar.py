"""Nearest training pictures and the plane of embeddings, against scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.inference.tiny import CLASSES, make_run, write_folder

from resight import samples as data_sets
from resight.errors import DataError, RunError, UsageError
from resight.explaining import make_bank, nearest, plane, reference_bank
from resight.inference import Predictor, Reference, unit


def test_nearest_is_scikit_learns() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    generator = np.random.default_rng(0)
    bank = generator.normal(size=(200, 12)).astype(np.float32)
    asked = generator.normal(size=(9, 12)).astype(np.float32)
    places, cosines = nearest(bank, asked, 5)
    distances, expected = neighbors.NearestNeighbors(n_neighbors=5, metric="cosine").fit(bank).kneighbors(asked)
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-5)
    assert nearest(bank[:3], asked, 5)[0].shape == (9, 3)
    np.testing.assert_array_equal(nearest(bank, np.zeros((1, 12), np.float32), 2)[1], 0)


def test_the_plane_is_scikit_learns() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    generator = np.random.default_rng(1)
    points = (generator.normal(size=(80, 6)) * [5, 3, 1, 1, 0.5, 0.1] + 2).astype(np.float32)
    pca = decomposition.PCA(2).fit(points)
    found = plane(points)
    np.testing.assert_allclose(found.shares, pca.explained_variance_ratio_, rtol=1e-4)
    np.testing.assert_allclose(np.abs(found.place(points)), np.abs(pca.transform(points)), atol=1e-3)
    assert all(axis[np.abs(axis).argmax()] > 0 for axis in found.axes)


@pytest.mark.parametrize(
    "points", [np.ones((1, 4)), np.ones((5, 4)), np.array([[0.0, 0, 0], [1, 0, 0]]), np.ones((3, 1))]
)
def test_planes_of_too_little(points: np.ndarray) -> None:
    found = plane(points.astype(np.float32))
    assert found.place(points.astype(np.float32)).shape == (len(points), 2)
    assert all(0 <= share <= 1 for share in found.shares)
    assert np.isfinite(found.place(points.astype(np.float32))).all()


def test_a_bank_is_drawn_from_training_alone_and_seeded(tmp_path: Path) -> None:
    samples = data_sets.load(write_folder(tmp_path / "data", each=12), val_fraction=0.2, test_fraction=0.2)
    predictor = Predictor(make_run(tmp_path / "run"), threads=1)
    bank = make_bank(predictor, samples, limit=9)
    assert bank.embeddings.shape == (9, 4)
    assert {sample.split for sample in bank.samples} == {"train"}
    assert bank.samples == make_bank(predictor, samples, limit=9).samples
    assert bank.samples != make_bank(predictor, samples, limit=9, seed=1).samples
    assert len(make_bank(predictor, samples, limit=1000).samples) == len(samples.part("train"))
    sample = bank.samples[4]
    square = predictor.square(samples.path(sample))
    expected = unit(predictor.ask(square[None], ("embedding",))[0])[0]
    np.testing.assert_allclose(bank.embeddings[4], expected, atol=1e-6)
    assert CLASSES[bank.labels[4]] == sample.source.split("/")[0]
    with pytest.raises(UsageError, match="1 or more"):
        make_bank(predictor, samples, limit=0)


def test_unreadable_training_pictures_are_left_out(tmp_path: Path) -> None:
    samples = data_sets.load(write_folder(tmp_path / "data", each=4), val_fraction=0, test_fraction=0)
    predictor = Predictor(make_run(tmp_path / "run"), threads=1)
    broken = samples.part("train")[0]
    samples.path(broken).write_bytes(b"no picture")
    assert broken not in make_bank(predictor, samples).samples
    assert len(make_bank(predictor, samples).samples) == 11
    for sample in samples.part("train"):
        samples.path(sample).write_bytes(b"no picture")
    with pytest.raises(DataError, match="not one training picture"):
        make_bank(predictor, samples)


def test_the_bank_that_a_run_carries_names_the_same_pictures(tmp_path: Path) -> None:
    samples = data_sets.load(write_folder(tmp_path / "data", each=12), val_fraction=0.2, test_fraction=0.2)
    train = [k for k, sample in enumerate(samples.samples) if sample.split == "train"]
    rows = np.random.default_rng(0).normal(size=(len(train), 4)).astype(np.float32)
    labels = np.array([samples.samples[k].label for k in train])
    reference = Reference.fit(rows, labels, np.array(train), [samples.samples[k].name for k in train])
    bank = reference_bank(reference, samples)
    assert [sample.name for sample in bank.samples] == list(reference.sources)
    np.testing.assert_allclose(bank.embeddings, unit(rows), atol=1e-3)
    few = reference_bank(reference, samples, limit=5)
    assert len(few.samples) == len(few.embeddings) == 5
    assert set(few.samples) < set(bank.samples)


@pytest.mark.parametrize("change", ["beyond", "negative", "reversed", "label"])
def test_a_reference_to_other_pictures_is_refused(tmp_path: Path, change: str) -> None:
    samples = data_sets.load(write_folder(tmp_path / "data", each=12), val_fraction=0.2, test_fraction=0.2)
    train = np.array([k for k, sample in enumerate(samples.samples) if sample.split == "train"])
    labels = np.array([samples.samples[k].label for k in train])
    rows = np.random.default_rng(0).normal(size=(len(train), 4)).astype(np.float32)
    good = Reference.fit(rows, labels, train, [samples.samples[k].name for k in train])
    wrong = {
        "beyond": replace(good, indices=train + 10**9),
        "negative": replace(good, indices=train - len(samples)),
        "reversed": replace(good, indices=train[::-1].copy()),
        "label": replace(good, labels=(labels + 1) % 3),
    }[change]
    with pytest.raises(RunError, match="which it is not"):
        reference_bank(wrong, samples)
