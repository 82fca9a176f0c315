"""``resight adapt --by patches``: what a choice of tiles answers, and how the choice is learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.adapting.looking import COSTS, SETTINGS, config_of, copied, invented
from tests.training.tiny import Recorder

from resight.adapting.patches.curve import SHARES, Point, answered, curve, gain, in_order, mean_curve, operating_point
from resight.adapting.patches.facts import Facts, load_facts
from resight.adapting.patches.learning import learn_to_look
from resight.adapting.patches.policy import Looked, LookPictures, LookSettings, TileCosts, TilePolicy, pooled
from resight.adapting.patches.table import to_text, verdict
from resight.adapting.reinforce import bounded
from resight.commands.own_data import load_own
from resight.errors import RunError, UsageError
from resight.evaluation import softmax
from resight.inference.patches import best, detail, looked_at
from resight.models.from_run import network_of
from resight.recipes import TrainConfig
from resight.runs import Run
from resight.samples import Sample
from resight.training.loader import TrainLoader


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
    sound = (tmp_path / "kept.npz").read_bytes()
    middle = len(sound) // 2
    flipped = sound[:middle] + bytes([sound[middle] ^ 255]) + sound[middle + 1 :]
    for damaged in (b"PK damaged", sound[:-40], flipped, b""):
        (tmp_path / "kept.npz").write_bytes(damaged)
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


def test_the_gradient_is_reinforce_over_tiles_with_the_greedy_baseline(tiled_run: Run) -> None:
    facts, config = invented(8), config_of(tiled_run)
    torch.manual_seed(0)
    objective = Looked(TilePolicy(3, 12, network_of(tiled_run).spec), config, SETTINGS, COSTS)
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


def test_a_policy_learns_to_look_at_what_knows(tiled_run: Run, tmp_path: Path) -> None:
    found = learned(
        copied(tiled_run, tmp_path), config_of(tiled_run, epochs=10), Recorder(), replace(SETTINGS, samples=32)
    )
    last = found.history[-1]
    assert last["val_accuracy"] > 0.9
    assert last["val_looked"] < 0.3  # one of 6 to 13 would do; all would be right as well, most others wrong


def test_what_was_interrupted_goes_on_bitwise(tiled_run: Run, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def fail(done: int) -> None:
        if done == 7:
            raise Stop

    results = []
    for name, interrupted in (("whole", False), ("parts", True)):
        (tmp_path / name).mkdir()
        run, config = copied(tiled_run, tmp_path / name), config_of(tiled_run)
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
