"""``resight adapt --by patches``: what a choice of tiles answers, how the choice is learned, and the artefact."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.inference.tiny import make_run
from tests.training.tiny import CLASSES, Recorder, pattern

import resight
from resight.adapting.learning import policy_config
from resight.adapting.patches import making
from resight.adapting.patches.curve import SHARES, Point, answered, curve, gain, in_order, mean_curve, operating_point
from resight.adapting.patches.facts import Facts, load_facts
from resight.adapting.patches.learning import learn_to_look, look_config
from resight.adapting.patches.making import patches
from resight.adapting.patches.policy import Looked, LookPictures, LookSettings, TileCosts, TilePolicy, pooled
from resight.adapting.patches.table import to_text, verdict
from resight.adapting.patches.timing import TilePace
from resight.adapting.reinforce import bounded
from resight.commands.own_data import load_own
from resight.errors import AdaptationError, Interrupted, RunError, UsageError
from resight.evaluation import softmax
from resight.images import cut, decode, tile_boxes
from resight.inference import Predictor
from resight.inference.patches import PLAN, Patches, best, detail, looked_at, read_looking
from resight.models.from_run import network_of
from resight.recipes import TrainConfig
from resight.runs import CONFIG, Run
from resight.samples import Sample
from resight.training.loader import TrainLoader
from resight.training.objective import Normalize

SETTINGS = LookSettings(tile=8, side=12, samples=4)
COSTS = TileCosts(0.0001, 0.01)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several sizes: a pattern of 28 px somewhere in noise."""
    root = tmp_path_factory.mktemp("large")
    for label, kind in enumerate(CLASSES):
        (root / kind).mkdir()
        for number in range(12):
            random = np.random.default_rng(1000 * label + number)
            height, width = random.integers(30, 90, 2)
            pixels = random.integers(100, 150, (height, width, 3), dtype=np.uint8)
            y, x = random.integers(0, height - 27), random.integers(0, width - 27)
            pixels[y : y + 28, x : x + 28] = pattern(kind, number)
            Image.fromarray(pixels).save(root / kind / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def sealed(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return resight.train(
        large, model="resnet8", image_size=28, epochs=1, seed=1, workers=0, device="cpu",
        out=tmp_path_factory.mktemp("sealed") / "run",
        set={"data.geometry": "tiles", "tiles.side": 32, "tiles.bag": 6, "model.options.stem": "tiny"},
    )  # fmt: skip


def config_of(run: Run, **more: Any) -> TrainConfig:
    config = TrainConfig.from_json(run.read(CONFIG), "config.json")
    given = {"epochs": 2, "batch": 4, "seed": 3, "joint": 1.0} | more
    return look_config(policy_config(run, config, **given))


def invented(pictures: int, seed: int = 0, classes: int = 3, channels: int = 3) -> Facts:
    """Of each picture one tile, a bright one, knows the class; all others, dark, are a little wrong and attended to."""
    random = np.random.default_rng(seed)
    windows, attention, logits, labels = [], [], [], random.integers(0, classes, pictures)
    for label in labels:
        count = int(random.integers(6, 14))
        seen = random.integers(0, 60, (count, 12, 12, channels), dtype=np.uint8)
        says = np.zeros((count, classes), np.float32)
        says[:, (label + 1) % classes] = 1.0
        place = random.integers(count)
        seen[place] += 150
        says[place] = 40.0 * np.eye(classes)[label]
        windows.append(seen)
        attention.append(np.zeros(count, np.float32))
        logits.append(says)
    return Facts(tuple(windows), tuple(attention), tuple(logits), labels)


def of(number: int) -> list[Sample]:
    return [Sample(f"{k}.png", None, 0, "train") for k in range(number)]


def test_any_choice_of_tiles_is_one_softmax_over_them() -> None:
    random = np.random.default_rng(1)
    attention, logits = 9 * random.normal(size=(2, 30)).astype("f4"), random.normal(size=(2, 30, 3)).astype("f4")
    facts = Facts(tuple(np.zeros((2, 30, 4, 4, 1), np.uint8)), tuple(attention), tuple(logits), np.zeros(2, np.int64))
    kept = random.random((5, 2, 30)) < 0.3
    kept[..., 7] = True
    found = pooled(*map(torch.from_numpy, (kept, attention, logits))).numpy()
    for sample in range(5):
        for picture in range(2):
            chosen = np.flatnonzero(kept[sample, picture])
            weights = softmax(attention[picture, chosen][None].astype(np.float64))[0]
            expected = weights @ logits[picture, chosen]
            np.testing.assert_allclose(found[sample, picture], expected, atol=1e-5)
            np.testing.assert_allclose(facts.answer(picture, chosen), expected, atol=1e-9)


def test_facts_are_kept_as_they_are(tmp_path: Path) -> None:
    facts = invented(5)
    facts.save(tmp_path / "kept.npz")
    again = load_facts(tmp_path / "kept.npz")
    for name in ("windows", "attention", "logits"):
        for one, other in zip(getattr(facts, name), getattr(again, name), strict=True):
            np.testing.assert_array_equal(one, other)
    (tmp_path / "kept.npz").write_bytes(b"PK damaged")
    with pytest.raises(RunError, match="damaged"):
        load_facts(tmp_path / "kept.npz")


def test_the_point_is_where_no_larger_share_loses_more() -> None:
    points = [Point(s, s, a) for s, a in ((0.01, 0.9), (0.1, 0.7), (0.3, 0.895), (0.6, 0.91), (1.0, 0.9))]
    chosen = operating_point(points, 0.9, 0.5)
    assert chosen is not None
    assert chosen.share == 0.3  # the lucky 1 % is not taken
    assert operating_point(points, 0.9, 20.0) == points[0]
    assert operating_point([replace(p, accuracy=0.5) for p in points[:-1]] + points[-1:], 0.9, 0.5) is None
    assert [looked_at(share, 10) for share in (0.001, 0.26, 1.0)] == [1, 3, 10]
    assert best(np.array([1, 5, 5, 9, 0], np.float32), 3).tolist() == [1, 2, 3]


def test_detail_is_taken_unless_the_policy_is_shown_to_be_better() -> None:
    one, two = Point(0.1, 0.1, 0.9), Point(0.2, 0.21, 0.9)
    facts = invented(60)
    perfect = [logits.max(axis=1) for logits in facts.logits]
    rules = {"policy": perfect, "detail": [-score for score in perfect]}
    known = gain(facts, rules, one, ("a", "b", "c"))
    assert known is not None
    assert known.value == 1.0
    assert known.low > 0.8
    assert gain(facts, rules | {"detail": perfect}, one, ("a", "b", "c")).low < 0  # type: ignore[union-attr]
    assert gain(facts, rules, None, ("a", "b", "c")) is None
    points = {"policy": one, "detail": two}
    assert in_order(points, known) == [("policy", one), ("detail", two)]
    assert in_order(points, replace(known, low=-0.1)) == [("detail", two), ("policy", one)]
    assert in_order({"policy": two, "detail": one}, known)[0] == ("detail", one)
    assert in_order({"policy": one, "detail": None}, None) == [("policy", one)]
    assert in_order({"policy": None, "detail": None}, None) == []
    assert "is better than" in verdict(points, known)
    assert "not shown to be better" in verdict(points, replace(known, low=-0.1))
    assert "of no use" in verdict({"policy": None, "detail": None}, None)


def test_detail_is_the_variance_of_the_tile_itself() -> None:
    windows = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3), dtype=np.uint8)
    expected = [window[2:7, 2:7].astype(float).ravel().var() for window in windows]
    np.testing.assert_allclose(detail(windows, 5), expected, rtol=1e-6)


def test_the_curve_counts_right_answers() -> None:
    facts = invented(20)
    perfect = [logits.max(axis=1) for logits in facts.logits]
    points = curve(facts, perfect)
    assert [point.share for point in points] == list(SHARES)
    assert points[0].accuracy == 1.0
    np.testing.assert_allclose(answered(facts, perfect, 1.0), facts.whole())
    worst = curve(facts, [-one for one in perfect])
    assert worst[5].accuracy == 0.0
    assert mean_curve([points, worst])[0].accuracy == 0.5
    curves = {"policy": points, "detail": worst}
    text = to_text(curves, {"policy": points[0], "detail": worst[-1]}, None, 20).splitlines()
    assert text[1].split() == ["1.0", "%", "100.0", "%*", "0.0", "%"]
    assert text[-2].split(", of which ")[1].startswith("one is 5 points")


def slow_loss(objective: Looked, batch: Any, facts: Facts, drawn: torch.Tensor) -> torch.Tensor:
    """By loops over pictures and samples, with the numbers that were drawn."""
    settings, costs, terms, sure = objective.settings, objective.costs, [], []

    def reward(picture: int, chosen: Any) -> float:
        right = facts.answer(picture, chosen).argmax() == facts.labels[picture]
        share = costs.look / costs.tile + len(chosen) / len(facts.attention[picture])
        return 1 - share**2 if right else -settings.penalty

    for row, picture in enumerate(batch.indices.tolist()):
        windows = torch.from_numpy(facts.windows[picture]).permute(0, 3, 1, 2)
        wanted = objective.net(objective.normalize(windows))[:, 0]
        keep = bounded(wanted, settings.bound)
        sure.append(keep)
        greedy = np.flatnonzero(wanted.detach().numpy() >= 0)
        greedy = greedy if len(greedy) else np.array([int(wanted.argmax())])
        for sample in range(settings.samples):
            taken = drawn[sample, row, : len(keep)] < keep
            if not taken.any():
                taken[wanted.argmax()] = True
            advantage = reward(picture, np.flatnonzero(taken.numpy())) - reward(picture, greedy)
            terms.append(-advantage * torch.where(taken, keep, 1 - keep).log().sum())
    keep = torch.cat(sure)
    entropy = -(keep * keep.log() + (1 - keep) * (1 - keep).log()).mean()
    return torch.stack(terms).mean() - settings.entropy * entropy


def test_the_gradient_is_reinforce_over_tiles_with_the_greedy_baseline(sealed: Run) -> None:
    facts, config = invented(8), config_of(sealed)
    torch.manual_seed(0)
    objective = Looked(TilePolicy(3, 12, network_of(sealed).spec), config, SETTINGS, COSTS)
    objective.net.linear.bias.data.zero_()  # some tiles are greedily left out
    objective.net.linear.weight.data.normal_()
    batch = TrainLoader(LookPictures(of(8), facts), config).make(1)
    torch.manual_seed(5)
    loss, logs = objective(batch)
    torch.manual_seed(5)
    drawn = torch.rand(SETTINGS.samples, *batch.pixels.shape[:2])
    expected = slow_loss(objective, batch, facts, drawn)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert 0 <= float(logs["correct"]) <= float(logs["seen"]) == 4
    parameters = list(objective.net.parameters())
    for found, slow in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        np.testing.assert_allclose(found, slow, rtol=1e-3, atol=1e-5)


def learned(run: Run, config: TrainConfig, report: Any, settings: LookSettings = SETTINGS, costs: Any = None) -> Any:
    """Of invented facts about the Run's own pictures."""
    samples = load_own(run)
    counts = samples.counts()
    parts = tuple(invented(int(counts[part].sum()), seed) for seed, part in enumerate(("train", "val")))
    return learn_to_look(
        run, samples, parts, config, settings, "patches", costs or (lambda: COSTS), report, {"threads": 1}
    )


def copied(run: Run, folder: Path) -> Run:
    shutil.copytree(run.path, folder / "run", ignore=shutil.ignore_patterns("artifacts"))
    return Run.open(folder / "run")


def test_a_policy_learns_to_look_at_what_knows(sealed: Run, tmp_path: Path) -> None:
    found = learned(copied(sealed, tmp_path), config_of(sealed, epochs=10), Recorder(), replace(SETTINGS, samples=32))
    last = found.history[-1]
    assert last["val_accuracy"] > 0.9
    assert last["val_looked"] < 0.3  # one of 6 to 13 would do; all would be right as well, most others wrong


def test_what_was_interrupted_goes_on_bitwise(sealed: Run, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def fail(done: int) -> None:
        if done == 7:
            raise Stop

    results = []
    for name, interrupted in (("whole", False), ("parts", True)):
        (tmp_path / name).mkdir()
        run, config = copied(sealed, tmp_path / name), config_of(sealed)
        config.save_steps = 3
        if interrupted:
            with pytest.raises(Stop):
                learned(run, config, Recorder(on_step=fail))
            with pytest.raises(UsageError, match="other settings"):
                learned(run, config, Recorder(), replace(SETTINGS, penalty=1.0))

        def costs(again: bool = interrupted) -> TileCosts:
            assert not again, "costs are measured only where a training begins"
            return COSTS

        results.append(learned(run, config, Recorder(), costs=costs))
    one, other = (result.policy.state_dict() for result in results)
    assert all(torch.equal(one[name], other[name]) for name in one)
    strip = [[{k: v for k, v in entry.items() if k != "seconds"} for entry in result.history] for result in results]
    assert strip[0] == strip[1]


def timed(times: float) -> Any:
    """Stands in for a measurement."""
    return lambda whole, some, choose, pictures: TilePace((times,) * 3, times, 0.01, 0.02, len(pictures), 1)


@pytest.fixture(scope="module", params=["detail", "policy"])
def adapted(request: pytest.FixtureRequest, sealed: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """By each of the rules, whichever is better here."""
    run = copied(sealed, tmp_path_factory.mktemp("adapted"))
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
    assert card.metrics["test"]["metrics"]["accuracy"]["value"] >= 0
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


def test_the_command_reaches_the_policy_and_says_how_to_go_on(sealed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def stopped(run: Run, samples: Any, config: TrainConfig, **more: Any) -> None:
        given.update(more, epochs=config.epochs, seed=config.seed)
        raise Interrupted("stopped at step 3 of 9, saved", signal_number=2, hint="resight resume elsewhere")

    monkeypatch.setattr(making, "patches", stopped)
    with pytest.raises(Interrupted, match="stopped at step 3") as caught:
        resight.adapt(sealed, by="patches", epochs=7, penalty=2.5, seed=11, threads=1)
    assert caught.value.exit_code == 130
    assert caught.value.hint == "the same command goes on from there"
    assert (given["epochs"], given["seed"], given["name"]) == (7, 11, "patches")
    assert given["settings"] == LookSettings(penalty=2.5)
    with pytest.raises(UsageError, match="--size has an effect only"):
        resight.adapt(sealed, by="patches", sizes=[16])


def test_a_run_that_sees_pictures_at_once_has_no_tiles_to_choose(tmp_path: Path) -> None:
    run = make_run(tmp_path / "squares")
    with pytest.raises(UsageError, match="sees a picture at once"):
        resight.adapt(run, by="patches")
