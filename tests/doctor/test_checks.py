"""Every check, on small sets with the defect and without."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.doctor.pictures import scene, write, write_set
from tests.inference import tiny

from resight.doctor import Diagnosis, diagnose, leaks, suspects
from resight.doctor.duplicates import Groups
from resight.doctor.finding import Finding
from resight.doctor.first_look import first_look, identical
from resight.doctor.suspects import find
from resight.errors import DataError
from resight.runs import SPLIT, Run
from resight.runs.run import PREDICTIONS
from resight.samples import check_files, load, split_csv

FOLDERS = {"train/cat": 4, "train/dog": 4, "val/cat": 2, "val/dog": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "data", FOLDERS)


def look(root: Path) -> Diagnosis:
    return diagnose(load(root, val_fraction=0, test_fraction=0, training=False), root, threads=2)


def named(found: Diagnosis, kind: str) -> list[set[str]]:
    """The groups of names in one kind of finding."""
    samples = found.samples
    return [
        {samples.samples[k].source for k in item.pictures} for f in found.findings if f.kind == kind for item in f.items
    ]


def kinds(found: Diagnosis) -> set[str]:
    return {finding.kind for finding in found.findings}


def of(found: Diagnosis, kind: str) -> Finding:
    return next(finding for finding in found.findings if finding.kind == kind)


def test_a_sound_set_has_only_small_classes(root: Path) -> None:
    assert kinds(look(root)) == {"too-few"}


def test_unreadable_misnamed_and_blank(root: Path) -> None:
    whole = (root / "train/cat/0.jpg").read_bytes()
    (root / "train/cat/0.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train/cat/1.jpg").write_bytes(b"")
    write(root, "train/dog/named.jpg", scene(77), format="PNG")
    write(root, "val/dog/white.png", Image.new("RGB", (90, 80), "white"))
    write(root, "val/dog/grey.png", Image.fromarray(np.full((80, 90), 90, np.uint8)))
    found = look(root)
    assert named(found, "unreadable") == [{"train/cat/0.jpg"}, {"train/cat/1.jpg"}]
    assert "cut off" in of(found, "unreadable").items[0].note
    assert named(found, "misnamed") == [{"train/dog/named.jpg"}]
    assert named(found, "blank") == [{"val/dog/grey.png"}, {"val/dog/white.png"}]
    assert not {kind for kind in kinds(found) if "duplicates" in kind}
    assert found.findings[0].kind == "unreadable"
    assert not found.sound


def test_duplicates_across_splits_within_and_under_two_labels(root: Path) -> None:
    shutil.copy(root / "train/cat/0.jpg", root / "val/cat/copy.jpg")
    scene(1, 160, 120).resize((90, 70)).save(root / "val/cat/small.jpg", quality=60)
    shutil.copy(root / "train/dog/2.jpg", root / "train/dog/twin.jpg")
    scene(3).crop((4, 3, 156, 117)).save(root / "train/dog/cropped.jpg", quality=90)
    found = look(root)
    assert named(found, "duplicates-across-splits") == [{"train/cat/0.jpg", "val/cat/copy.jpg"}]
    assert named(found, "near-duplicates-across-splits") == [{"train/cat/1.jpg", "val/cat/small.jpg"}]
    assert named(found, "duplicates") == [{"train/dog/2.jpg", "train/dog/twin.jpg"}]
    assert named(found, "conflicting-labels") == [{"train/cat/3.jpg", "train/dog/cropped.jpg"}]
    assert not named(found, "near-duplicates")


def test_the_same_pixels_in_other_files_are_exact(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", {"a": 3, "b": 3})
    for name in ("a/x.png", "a/y.bmp"):
        write(root, name, scene(500))
    assert named(look(root), "duplicates") == [{"a/x.png", "a/y.bmp"}]


def test_groups_of_three_and_chains_are_one(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", {"a": 2, "b": 2})
    for number, quality in enumerate((95, 60, 40)):
        write(root, f"a/same{number}.jpg", scene(9), quality=quality)
    assert named(look(root), "near-duplicates") == [{"a/same0.jpg", "a/same1.jpg", "a/same2.jpg"}]


def test_union_find_keeps_members() -> None:
    groups, random = Groups(), np.random.default_rng(0)
    labels = np.arange(200)
    for left, right in random.integers(0, 200, (150, 2)).tolist():
        groups.join(left, right)
        labels[labels == labels[max(left, right)]] = labels[min(left, right)]
    expected = {tuple(np.flatnonzero(labels == k).tolist()) for k in set(labels.tolist())}
    assert set(groups.groups()) == {group for group in expected if len(group) > 1}


def test_bursts_by_serial_and_model(tmp_path: Path) -> None:
    def shot(name: str, seed: int, second: int, serial: str | None, model: str = "X1") -> None:
        exif = Image.Exif()
        exif[0x0110] = model
        exif.get_ifd(0x8769)[0x9003] = f"2024:01:01 10:00:{second:02d}"
        if serial:
            exif.get_ifd(0x8769)[0xA431] = serial
        write(tmp_path, f"data/{name}", scene(seed), exif=exif.tobytes())

    for number, (name, second, serial) in enumerate([
        ("train/a/1.jpg", 0, "S1"), ("val/a/2.jpg", 4, "S1"), ("train/a/3.jpg", 30, "S1"), ("val/a/4.jpg", 2, "S2"),
        ("train/b/5.jpg", 50, None), ("val/b/6.jpg", 51, None), ("train/b/7.jpg", 55, None),
    ]):  # fmt: skip
        shot(name, number, second, serial)
    found = look(tmp_path / "data")
    assert named(found, "bursts-across-splits") == [
        {"train/a/1.jpg", "val/a/2.jpg"},
        {"train/b/5.jpg", "val/b/6.jpg"},
    ]


def test_copies_and_frames_by_name(tmp_path: Path) -> None:
    names = [
        "train/a/IMG_1.jpg", "val/a/IMG_1 (2).jpg", "train/a/x.jpg", "val/a/x - Copy.jpg",
        "train/b/film_frame_001.jpg", "val/b/film_frame_002.jpg", "train/b/s_jpg.rf.0123456789ab.jpg",
        "val/b/s_jpg.rf.ba9876543210.jpg", "train/b/0001.jpg", "val/b/0001.jpg",
        *(f"train/a/hat ({k}).jpg" for k in range(1, 12)),
    ]  # fmt: skip
    for number, name in enumerate(names):
        write(tmp_path, f"data/{name}", scene(number, 40, 30))
    samples = load(tmp_path / "data", training=False, test_fraction=0)
    found = [{samples.samples[k].source for k in group} for group in leaks.stems(samples)]
    expected = [set(names[k : k + 2]) for k in (0, 2, 4, 6)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_classes_missing_few_uneven_and_alike(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", {"train/cat": 12, "train/Hat": 1, "train/hat ": 2, "val/cat": 2, "val/bird": 1})
    found = look(root)
    missing = [f for f in found.findings if f.kind == "missing-class"]
    assert [(f.severity, f.texts) for f in missing] == [
        ("error", ("bird: none in train",)),
        ("warning", ("Hat: none in val", "hat : none in val")),
    ]
    assert of(found, "imbalance").severity == "warning"
    assert "--balance logit" in of(found, "imbalance").remedy
    assert of(found, "similar-names").texts == ("Hat and hat ",)
    assert "cat: 2 pictures; a recall of 90 %" in " ".join(of(found, "too-few").texts)


def test_one_class_and_an_empty_folder_are_findings_not_errors(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", {"only": 3})
    (root / "empty").mkdir()
    found = look(root)
    assert {"one-class", "layout"} <= kinds(found)
    assert "empty" in of(found, "layout").texts[0]


def test_blurred_dark_small_long_and_modes(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", {"a": 15, "b": 15})
    write(root, "a/soft.jpg", scene(200).filter(ImageFilter.GaussianBlur(9)))
    write(root, "a/dark.png", scene(201).point(lambda value: value // 8))
    write(root, "a/tiny.png", scene(202, 12, 12))
    write(root, "a/long.png", scene(203, 640, 120))
    write(root, "a/grey.png", scene(204).convert("L"))
    write(root, "a/turned.jpg", scene(205), exif=_orientation(6))
    found = look(root)
    for kind, name in (
        ("blurred", "soft.jpg"), ("dark", "dark.png"), ("small", "tiny.png"), ("long", "long.png"),
        ("modes", "grey.png"), ("turned", "turned.jpg"),
    ):  # fmt: skip
        assert named(found, kind) == [{f"a/{name}"}], kind


def _orientation(value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def test_confident_learning_against_its_definition() -> None:
    random = np.random.default_rng(5)
    probabilities = random.dirichlet(np.full(4, 0.4), 300)
    labels = np.where(random.random(300) < 0.8, probabilities.argmax(axis=1), random.integers(0, 4, 300))
    thresholds = [probabilities[labels == j, j].mean() for j in range(4)]
    for k, confident in enumerate(find(probabilities, labels).tolist()):
        reached = [j for j in range(4) if probabilities[k, j] >= thresholds[j]]
        assert confident == (max(reached, key=lambda j: probabilities[k, j]) if reached else -1)


def test_array_files_are_looked_at_too(tmp_path: Path) -> None:
    import struct

    pictures = np.stack([np.asarray(scene(k, 28, 28).convert("L")) for k in range(8)])
    pictures[7] = pictures[2]
    for split, chosen in (("train", slice(0, 6)), ("t10k", slice(6, 8))):
        part = pictures[chosen]
        header = struct.pack(">4B3I", 0, 0, 8, 3, *part.shape)
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(header + part.tobytes())
        labels = bytes(k % 2 for k in range(len(part)))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, len(part)) + labels)
    found = look(tmp_path)
    assert len(named(found, "duplicates-across-splits")) == 1
    report = json.loads(json.dumps(found.to_dict()))
    item = next(f for f in report["findings"] if f["kind"] == "duplicates-across-splits")["items"][0]
    assert [p["source"] for p in item["pictures"]] == ["train-images-idx3-ubyte[2]", "t10k-images-idx3-ubyte[1]"]
    assert not any(f["command"] for f in report["findings"])


def uneven_labels(root: Path) -> Path:
    """Twelve times red, once blue, and three pictures without a label."""
    rows = ["path,labels,split"]
    for k in range(16):
        write(root, f"{k}.jpg", scene(k))
        rows.append(f"{k}.jpg,{'red' if k < 12 else 'blue' if k == 12 else ''},{'train' if k < 14 else 'val'}")
    (root / "t.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return root / "t.csv"


def test_any_number_of_labels_is_told_what_it_can_do(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    table = uneven_labels(tmp_path / "set")
    found = look(table)
    assert of(found, "imbalance").severity == "warning"
    assert "--balance" not in json.dumps(found.to_dict())
    samples = load(table, val_fraction=0, test_fraction=0, training=False)
    lines = first_look(samples, check_files(samples, threads=1))
    assert any("different size" in line for line in lines)
    assert not any("--balance" in line for line in lines)


def test_pictures_without_a_label_are_a_finding_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    found = look(uneven_labels(tmp_path / "set"))
    assert named(found, "no-label") == [{f"{k}.jpg"} for k in (13, 14, 15)]
    assert "showing none of the classes" in of(found, "no-label").effect
    assert "layout" not in kinds(found)


def test_the_first_look_of_a_training(root: Path) -> None:
    shutil.copy(root / "train/cat/0.jpg", root / "val/dog/copy.jpg")
    samples = load(root, val_fraction=0, test_fraction=0)
    report = check_files(samples, threads=2)
    lines = first_look(samples, report)
    assert lines[0] == "identical pictures under different labels (1): train/cat/0.jpg = val/dog/copy.jpg"
    assert lines[1] == "identical pictures in more than one part (1): train/cat/0.jpg = val/dog/copy.jpg"
    assert "too small to evaluate in val" in lines[2]


def test_identical_groups_rows() -> None:
    rows = np.random.default_rng(0).integers(0, 2, (300, 16), dtype=np.uint8)[:, [0] * 12 + [1, 2, 3, 4]]
    expected: dict[bytes, list[int]] = {}
    for k, row in enumerate(rows):
        expected.setdefault(row.tobytes(), []).append(k)
    assert identical(rows) == sorted(tuple(group) for group in expected.values() if len(group) > 1)
    assert identical(np.zeros((0, 16), np.uint8)) == []


def test_suspects_come_from_the_runs_own_validation(root: Path, tmp_path: Path) -> None:
    """By name, part and label, in the order of the Run's split, pictures that were left out not counted."""
    shutil.copy(root / "train/cat/3.jpg", root / "train/cat/bad.jpg")
    samples = load(root, val_fraction=0, test_fraction=0)
    sealed = tiny.make_run(tmp_path / "sealed", classes=("cat", "dog"))
    run = Run.create(tmp_path / "run", replace(sealed.card, status="training", files={}))
    split_csv.write(run.path / SPLIT, samples.without([("train/cat/bad.jpg", "bad")]))
    val = [k for k, sample in enumerate(samples.without([("train/cat/bad.jpg", "")]).samples) if sample.split == "val"]
    logits = np.array([[3, 0], [3, 0], [4, 0], [0, 3]], np.float32)  # cat, cat, dog taken for a cat, dog
    np.savez(run.path / PREDICTIONS, val_logits=logits, val_labels=np.array([0, 0, 1, 1]), val_indices=np.array(val))
    (finding,) = suspects.findings(samples, run)
    assert [samples.samples[k].source for k in finding.pictures] == ["val/dog/0.jpg"]
    assert finding.items[0].note == "perhaps cat, by 96 points"
    other = load(write_set(tmp_path / "other", {"cat": 1, "bird": 1}), val_fraction=0, test_fraction=0)
    with pytest.raises(DataError, match="none of the pictures"):
        suspects.findings(other, run)
