"""What ``auto`` takes, from what is stored; and that no stored file can do more harm than a slow choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resight.errors import StorageError, UsageError
from resight.inference import AUTO, BACKENDS, Predictor, Speed
from resight.inference.backend import Kind
from resight.inference.choose import choose, recall, remember

from . import tiny

SHA = "ab" * 32
SPEEDS = {"onnxruntime": Speed(0.5, 20.0, 30.0), "openvino": Speed(1.0, 25.0, 60.0)}


@pytest.fixture(autouse=True)
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bench"


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr("resight.inference.choose.installed_backends", lambda: list(names))


def test_what_is_named_is_taken() -> None:
    remember(SHA, 2, 8, SPEEDS)
    assert choose("onnxruntime", SHA, 2, 8).name == "onnxruntime"
    with pytest.raises(UsageError, match="abacus"):
        choose("abacus", SHA, 2, 8)


def test_without_a_measurement_it_is_onnxruntime_and_says_how_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choose(AUTO, SHA, 2, 8)
    assert (found.name, found.note) == ("onnxruntime", None)
    assert "resight bench" in found.reason
    only(monkeypatch, "onnxruntime")
    assert "only" in choose(AUTO, SHA, 2, 8).reason


@pytest.mark.parametrize(
    ("pictures", "callers", "expected"),
    [
        (1, 1, "onnxruntime"),
        (20, 2, "onnxruntime"),
        (1000, 2, "openvino"),
        (None, 2, "openvino"),
        (None, 1, "openvino"),
    ],
)
def test_it_takes_what_is_quickest_for_so_many(pictures: int | None, callers: int, expected: str) -> None:
    remember(SHA, 2, 8, SPEEDS)
    found = choose(AUTO, SHA, 2, 8, pictures=pictures, callers=callers)
    assert found.name == expected
    assert "measured" in found.reason


def test_other_graphs_threads_versions_and_uninstalled_backends_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    path = remember(SHA, 2, 8, SPEEDS)
    assert recall(SHA, 2, 8) == (SPEEDS, None)
    assert recall("cd" * 32, 2, 8) == recall(SHA, 3, 8) == recall(SHA, 2, 1) == ({}, None)
    assert "--threads 2 --batch 1" in choose(AUTO, SHA, 2, 1).reason
    plain = json.loads(path.read_text())
    (entry,) = plain["entries"].values()
    entry["openvino"]["version"] = "2020.1"
    path.write_text(json.dumps(plain))
    assert set(recall(SHA, 2, 8)[0]) == {"onnxruntime"}
    assert choose(AUTO, SHA, 2, 8).name == "onnxruntime"
    remember(SHA, 2, 8, SPEEDS)
    only(monkeypatch, "onnxruntime")
    assert choose(AUTO, SHA, 2, 8).name == "onnxruntime"


def test_a_package_of_another_distribution_is_measured_and_recalled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where onnxruntime-gpu is installed instead of onnxruntime, no distribution has the package's name."""
    gpu = Kind("resight.inference.onnxruntime", "OnnxRuntime", "onnx_of_nobody")
    monkeypatch.setattr("resight.inference.backend.find_spec", lambda name: object())
    monkeypatch.setitem(BACKENDS, "onnxruntime", gpu)
    remember(SHA, 2, 8, SPEEDS)
    assert recall(SHA, 2, 8) == (SPEEDS, None)


def test_measurements_for_other_threads_and_batches_are_kept() -> None:
    remember(SHA, 1, 8, SPEEDS)
    remember(SHA, 2, 8, {"openvino": SPEEDS["openvino"]})
    remember(SHA, 2, 1, SPEEDS)
    assert recall(SHA, 1, 8)[0] == recall(SHA, 2, 1)[0] == SPEEDS
    assert set(recall(SHA, 2, 8)[0]) == {"openvino"}


def broken() -> list[bytes]:
    def entries(value: Any) -> bytes:
        return json.dumps({"schema": 1, "entries": value}).encode()

    bad = [
        None,
        [],
        {"here": 5},
        {"here": {"openvino": {}}},
        {"here": {"openvino": {"version": "1", "speed": {"one": 1}}}},
    ]
    speeds: list[Any] = [0, -1, "fast", None]
    bad += [{"h": {"openvino": {"version": "1", "speed": {"start": s, "one": 1, "many": 1}}}} for s in speeds]
    infinite = b'{"schema": 1, "entries": {"h": {"o": {"version": "1", "speed": {"start": NaN, "one": 1, "many": 1}}}}}'
    return [b"", b"{", b"null", b"[]", b'{"schema": 9}', b"\xff", b"[" * 100_000, infinite, *map(entries, bad)]


@pytest.mark.parametrize("data", broken())
def test_a_file_that_is_none_is_noted_and_replaced_by_the_next_measurement(data: bytes, bench: Path) -> None:
    bench.mkdir(parents=True)
    path = bench / f"{SHA}.json"
    path.write_bytes(data)
    found = choose(AUTO, SHA, 2, 8)
    assert found.name == "onnxruntime"
    assert found.note is not None
    assert str(path) in found.note
    remember(SHA, 2, 8, SPEEDS)
    assert recall(SHA, 2, 8) == (SPEEDS, None)


@given(st.binary(max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_survived(bench: Path, data: bytes) -> None:
    bench.mkdir(parents=True, exist_ok=True)
    (bench / f"{SHA}.json").write_bytes(data)
    assert choose(AUTO, SHA, 2, 8).name == "onnxruntime"


def test_a_folder_in_its_place_and_a_cache_that_cannot_be_written(bench: Path) -> None:
    (bench / f"{SHA}.json").mkdir(parents=True)
    assert choose(AUTO, SHA, 2, 8).note is not None
    with pytest.raises(StorageError):
        remember(SHA, 2, 8, SPEEDS)


@pytest.mark.parametrize("name", [None, "", "../../etc/passwd", "AB" * 32, "ab" * 32 + "/x"])
def test_only_a_hash_names_a_file(name: str | None) -> None:
    assert recall(name, 2, 8) == ({}, None)
    with pytest.raises(StorageError):
        remember(name or "", 2, 8, SPEEDS)


def test_a_predictor_takes_it_and_says_so(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    remember(run.card.files["model.onnx"], 2, 8, SPEEDS)
    predictor = Predictor(run, threads=2)
    assert (predictor.choice.name, type(predictor._sessions.of(1)).__name__) == ("openvino", "OpenVino")
    assert Predictor(run, threads=2, pictures=1).choice.name == "onnxruntime"
    assert next(predictor.predict([tiny.picture("green")])).label == "green"
