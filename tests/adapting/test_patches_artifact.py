"""``resight adapt --by patches``: the artefact, what it answers, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.adapting.looking import SETTINGS, config_of, copied
from tests.inference.tiny import make_run
from tests.training.tiny import Recorder

import resight
from resight.adapting.patches import making
from resight.adapting.patches.making import patches
from resight.adapting.patches.policy import LookSettings
from resight.adapting.patches.timing import TilePace
from resight.commands.own_data import load_own
from resight.errors import AdaptationError, Interrupted, RunError, UsageError
from resight.images import cut, decode, tile_boxes
from resight.inference import Predictor
from resight.inference.patches import PLAN, Patches, best, looked_at, read_looking
from resight.models.from_run import network_of
from resight.recipes import TrainConfig
from resight.runs import Run
from resight.training.objective import Normalize


def timed(times: float) -> Any:
    """Stands in for a measurement."""
    return lambda whole, some, choose, pictures: TilePace((times,) * 3, times, 0.01, 0.02, len(pictures), 1)


@pytest.fixture(scope="module", params=["detail", "policy"])
def adapted(request: pytest.FixtureRequest, tiled_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """By each of the rules, whichever is better here."""
    run = copied(tiled_run, tmp_path_factory.mktemp("adapted"))
    how: dict[str, Any] = {"name": "patches", "settings": SETTINGS, "report": Recorder(), "threads": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "in_order", lambda points, gained: [(request.param, points[request.param])])
        how |= {"samples": load_own(run), "config": config_of(run, epochs=1), "max_drop": 60.0}
        if request.param == "policy":
            with pytest.raises(AdaptationError, match="none is faster"):
                patches(run, timing=timed(0.9), **how)
            assert not (run.path / "artifacts" / "patches").exists()
        patches(run, timing=timed(2.0), **how)  # what was learned and seen is kept
    about = resight.runs.open_artifact(run, "patches").card.adaptive
    assert about["by"] == request.param
    graphs = {"policy": ["policy", "network"], "detail": ["network"]}[request.param]
    assert [graph["name"] for graph in about["graphs"]] == graphs
    assert (run.path / "artifacts" / "patches" / "policy.onnx").exists() == (request.param == "policy")
    return run


def chosen_by_hand(run: Run, picture: Any) -> tuple[Any, int, int]:
    """The answer (K,), PyTorch's, from the tiles with the best scores; at how many was looked, of how many."""
    artifact = resight.runs.open_artifact(run, "patches")
    plan = read_looking(artifact.graph, artifact.sha256)
    geometry, boxes = run.card.geometry, tile_boxes(run.card.geometry, *picture.shape[:2])
    patches_ = Predictor(run, artifact="patches", threads=1)._sessions.any
    wanted = best(patches_.scores(geometry, picture, boxes), looked_at(plan.share, len(boxes)))  # type: ignore[attr-defined]
    net, normalize = network_of(run).eval(), Normalize(run.card.mean, run.card.std)
    tiles = torch.from_numpy(cut(geometry, picture, boxes[wanted])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        seen = net.embedding(normalize(tiles))
        share = net.attention(seen).softmax(0)
        logits = (share[:, None] * net.fc(seen)).sum(0)
    return torch.softmax(logits / artifact.card.temperature, 0).numpy(), len(wanted), len(boxes)


def test_an_artefact_looks_at_the_best_tiles_only_and_answers_as_pytorch(adapted: Run, large: Path) -> None:
    files = sorted(large.glob("*/*.png"))[::7]
    predictor = Predictor(adapted, artifact="patches", threads=2)
    together = list(predictor.predict(files, top=3))
    for file, answer in zip(files, together, strict=True):
        chances, looked, count = chosen_by_hand(adapted, decode(file))
        assert answer.tiles == (looked, count)
        ours = dict(answer.top)
        np.testing.assert_allclose([ours[name] for name in adapted.classes], chances, atol=1e-5)
        (alone,) = predictor.predict([file], top=3)
        assert dict(alone.top) == pytest.approx(ours, abs=1e-6)
    assert any(answer.tiles[0] < answer.tiles[1] for answer in together if answer.tiles)
    everything = list(Predictor(adapted, threads=1).predict(files))
    assert all(answer.tiles is None for answer in everything)


def test_openvino_chooses_and_answers_alike(adapted: Run, large: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    folder = tmp_path / "openvino"
    shutil.copytree(adapted.path / "artifacts" / "patches", folder)
    plan = read_looking(folder / PLAN, None)
    routes = {name: getattr(plan, name) for name in ("policy", "network") if getattr(plan, name)}
    other = replace(plan, **{name: replace(route, backend="openvino") for name, route in routes.items()})
    (folder / PLAN).write_bytes(other.to_json())
    ours, theirs = Patches(adapted.path / "artifacts" / "patches" / PLAN), Patches(folder / PLAN)
    picture, geometry = decode(sorted(large.glob("*/*.png"))[5]), adapted.card.geometry
    boxes = tile_boxes(geometry, *picture.shape[:2])
    np.testing.assert_allclose(
        ours.scores(geometry, picture, boxes), theirs.scores(geometry, picture, boxes), atol=1e-4
    )
    tiles = cut(geometry, picture, boxes)
    for mine, its in zip(*(side.answer(tiles, ("probabilities", "attention")) for side in (ours, theirs)), strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-4)


def test_its_card_says_what_was_tried_lost_and_measured(adapted: Run) -> None:
    card = resight.runs.open_artifact(adapted, "patches").card
    about = card.adaptive
    assert set(about["curves"]) == {"policy", "detail", "random"}
    assert about["pace"]["times"] == [2.0, 2.0, 2.0]
    assert set(about["lost"]) == {"val", "test"}
    assert card.unknown == {}
    folder = adapted.path / "artifacts"
    assert (folder / "patches" / "curve.png").stat().st_size > 5000
    assert [path.name for path in folder.iterdir() if path.name.startswith((".training", ".seen", ".draft"))] == []
    found = resight.evaluate_run(adapted, artifact="patches")
    assert found.to_dict()["looked"] == pytest.approx(about["looked"]["test"])
    assert found.evaluation.to_dict() == card.metrics["test"]
    assert "of the tiles" in found.to_text()


def test_every_form_of_answers_says_how_many_tiles(adapted: Run, large: Path, tmp_path: Path) -> None:
    files = sorted(large.glob("*/*.png"))[:3]
    found = resight.predict(adapted, files, artifact="patches")
    (looked, count) = found[0].tiles
    found.to_json(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())[0]["tiles"] == {"looked": looked, "all": count}
    found.to_csv(tmp_path / "a.csv")
    head, first = (tmp_path / "a.csv").read_text().splitlines()[:2]
    row = dict(zip(head.replace('"', "").split(","), first.replace('"', "").split(","), strict=True))
    assert (row["looked"], row["tiles"]) == (str(looked), str(count))
    parquet = pytest.importorskip("pyarrow.parquet")
    found.to_parquet(tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").column("tiles")[0].as_py() == {"looked": looked, "all": count}


def test_what_it_cannot_do_is_refused(adapted: Run, large: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="some tiles of a picture only"):
        resight.explain(adapted, large, artifact="patches", out=tmp_path / "maps")
    with pytest.raises(UsageError, match=r"adapt --by cascade is for"):
        resight.adapt(adapted, by="cascade", with_=adapted)
    with pytest.raises(UsageError, match="names the backends"):
        Predictor(adapted, artifact="patches", backend="onnxruntime")


@pytest.mark.parametrize("changes", [{"share": 0}, {"share": True}, {"side": 1000}, {"more": 1}, {"temperature": -1}])
def test_a_plan_that_says_nonsense_is_refused(adapted: Run, changes: dict[str, Any], tmp_path: Path) -> None:
    plain = json.loads((adapted.path / "artifacts" / "patches" / PLAN).read_bytes())
    (tmp_path / PLAN).write_text(json.dumps(plain | changes))
    with pytest.raises(RunError, match="which tiles are looked at"):
        read_looking(tmp_path / PLAN, None)
    with pytest.raises(RunError, match="changed"):
        read_looking(tmp_path / PLAN, "0" * 64)


def test_the_command_reaches_the_policy_and_says_how_to_go_on(tiled_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def stopped(run: Run, samples: Any, config: TrainConfig, **more: Any) -> None:
        given.update(more, epochs=config.epochs, seed=config.seed)
        raise Interrupted("stopped at step 3 of 9, saved", signal_number=2, hint="resight resume elsewhere")

    monkeypatch.setattr(making, "patches", stopped)
    with pytest.raises(Interrupted, match="stopped at step 3") as caught:
        resight.adapt(tiled_run, by="patches", epochs=7, penalty=2.5, seed=11, threads=1)
    assert caught.value.exit_code == 130
    assert caught.value.hint == "the same command goes on from there"
    assert (given["epochs"], given["seed"], given["name"]) == (7, 11, "patches")
    assert given["settings"] == LookSettings(penalty=2.5)
    with pytest.raises(UsageError, match="--size has an effect only"):
        resight.adapt(tiled_run, by="patches", sizes=[16])


def test_a_run_that_sees_pictures_at_once_has_no_tiles_to_choose(tmp_path: Path) -> None:
    run = make_run(tmp_path / "squares")
    with pytest.raises(UsageError, match="sees a picture at once"):
        resight.adapt(run, by="patches")
