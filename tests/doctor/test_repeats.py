"""Many pictures of one thing, copies in val and test, and films: what doctor makes of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from PIL import Image
from tests.doctor.pictures import scene, write

from resight.commands.doctor import examine
from resight.doctor import alignment, duplicates, leaks
from resight.samples import load


def test_frames_of_a_still_scene_are_one_group_and_few_registrations(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    still, random = np.asarray(scene(1, 96, 96), np.float32), np.random.default_rng(0)
    for k in range(60):
        noisy = np.clip(still + random.normal(0, 4, still.shape), 0, 255).astype(np.uint8)
        write(tmp_path, f"data/a/{k}.png", Image.fromarray(noisy))
    write(tmp_path, "data/b/other.png", scene(2, 96, 96))
    registered = 0

    def counting(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal registered
        registered += len(left)
        return alignment.agreement(left, right)

    monkeypatch.setattr(duplicates, "agreement", counting)
    found = examine(tmp_path / "data", threads=1).duplicates
    assert [len(group) for group in found.near] == [60]
    assert registered < 200  # of 1,770 pairs


def test_a_copy_in_val_and_test_stays_in_test_only(tmp_path: Path) -> None:
    for place, folder in enumerate(f"{part}/{name}" for part in ("train", "val", "test") for name in ("a", "b")):
        for k in range(4):
            write(tmp_path, f"data/{folder}/{k}.png", scene(10 * place + k, 96, 96))
    write(tmp_path, "data/val/a/copy.png", scene(7777, 96, 96))
    write(tmp_path, "data/test/a/copy.png", scene(7777, 96, 96))
    table = tmp_path / "clean.csv"
    assert any(f.kind == "duplicates-across-splits" for f in examine(tmp_path / "data", write_manifest=table).findings)
    kept = {sample.source for sample in load(table, training=False).samples}
    assert "data/test/a/copy.png" in kept
    assert "data/val/a/copy.png" not in kept
    assert not any(f.kind == "duplicates-across-splits" for f in examine(table).findings)


def test_numbered_frames_without_a_film_and_classes_of_one_film_are_no_groups(tmp_path: Path) -> None:
    for k in range(12):
        write(tmp_path, f"data/a/frame_{k:04}.png", scene(k, 40, 40))
        write(tmp_path, f"data/b/walk_frame_{k:04}.png", scene(100 + k, 40, 40))
        write(tmp_path, f"data/c/{'one' if k < 4 else f'x{k}'}_frame_{k:04}.png", scene(200 + k, 40, 40))
    samples = load(tmp_path / "data", val_fraction=0, test_fraction=0)
    groups = [{samples.samples[k].source for k in group} for group in leaks.stems(samples)]
    assert groups == [{f"c/one_frame_{k:04}.png" for k in range(4)}]


def test_of_array_files_no_manifest_is_promised(tmp_path: Path) -> None:
    pixels = np.stack([np.asarray(scene(k % 5, 40, 40).convert("L")) for k in range(10)])
    for name, values in (("train", pixels), ("t10k", pixels[:4])):
        header = np.array([0x803, len(values), 40, 40], ">u4").tobytes()
        with gzip.open(tmp_path / f"{name}-images-idx3-ubyte.gz", "wb") as file:
            file.write(header + values.tobytes())
        with gzip.open(tmp_path / f"{name}-labels-idx1-ubyte.gz", "wb") as file:
            labels = (np.arange(len(values)) % 5 % 2).astype(np.uint8)
            file.write(np.array([0x801, len(values)], ">u4").tobytes() + labels.tobytes())
    text = examine(tmp_path).to_text()
    assert "exact duplicates in more than one part" in text
    assert "manifest" not in text
