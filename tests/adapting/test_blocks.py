"""``resight adapt --by blocks``: sub-networks, the policy's training, and the artefact that comes of it."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.adapting.residual import EVEN, MEAN, STD, config_of, network, pixels, seal
from tests.adapting.small import rating, timing
from tests.training.tiny import SIDE, Recorder, write_patterns

from resight import samples as data_sets
from resight.adapting import learning
from resight.adapting.choosing import Routes, frequent, scores_of
from resight.adapting.dropping import blocks_of, without
from resight.adapting.gated import Gated, droppable
from resight.adapting.graphs import opened
from resight.adapting.learning import batch_for, learn
from resight.adapting.policies import blocks, measure_costs
from resight.adapting.reinforce import PolicySettings, Reinforced, bounded, decided
from resight.adapting.rewards import Costs, rewards
from resight.adapting.subnetworks import Parts
from resight.adapting.unknown import tell
from resight.errors import RunError, UsageError
from resight.inference import open_backend
from resight.inference.plan import read_plan
from resight.models import ResNet, create
from resight.models.from_run import network_of
from resight.recipes import override
from resight.runs import HISTORY, ONNX, Run
from resight.samples import SampleSet
from resight.training import prepare, reading
from resight.training.distill import Teacher
from resight.training.loader import TrainLoader

ONE = {"backend": "onnxruntime", "threads": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    root = write_patterns(tmp_path_factory.mktemp("patterns"), 20)
    return data_sets.load(root, seed=0, val_fraction=0.3, test_fraction=0.1)


@pytest.fixture(scope="module")
def net() -> ResNet:
    return network()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, net: ResNet) -> Run:
    return seal(tmp_path_factory.mktemp("runs") / "run", net)


def copied(run: Run, folder: Path) -> Run:
    return Run.open(shutil.copytree(run.path, folder / "run"))


@pytest.mark.parametrize("kept", [[1] * 7, [0] * 7, [1, 0, 1, 0, 0, 1, 0], [0, 1, 1, 1, 0, 0, 1]])
def test_a_graph_without_blocks_answers_as_pytorch(kept: list[int], sealed: Run, net: ResNet, tmp_path: Path) -> None:
    gated = Gated(net)
    assert gated.names == ["layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2"]
    dropped = [name for name, one in zip(gated.names, kept, strict=True) if not one]
    graph = without(sealed.read(ONNX), dropped)
    (tmp_path / "part.onnx").write_bytes(graph)
    images = (torch.from_numpy(pixels(5)).permute(0, 3, 1, 2) / 255 - 0.3) / 0.25
    with torch.inference_mode():
        mask = torch.tensor(kept, dtype=torch.bool).expand(5, -1)
        expected = gated.answered(gated.stem(images), mask).numpy()
    for name in ("onnxruntime", "openvino"):
        if name == "openvino":
            pytest.importorskip("openvino")
        found = open_backend(name, tmp_path / "part.onnx", 1).answer(pixels(5), ("logits",))[0]
        np.testing.assert_allclose(found, expected, atol=1e-4)
    if dropped:
        assert len(graph) < len(sealed.read(ONNX))


def test_blocks_that_cannot_be_dropped_are_refused(sealed: Run) -> None:
    with pytest.raises(RunError, match=r"no block layer9\.0"):
        without(sealed.read(ONNX), ["layer9.0"])
    with pytest.raises(UsageError, match="blocks can be dropped of networks"):
        droppable(create("resnet20_plain", num_classes=3, in_channels=3))
    import onnx

    assert next(iter(blocks_of(onnx.load_model_from_string(sealed.read(ONNX))))) == "layer1.0"


def test_pictures_of_different_policies_do_not_disturb_each_other(net: ResNet) -> None:
    gated = Gated(net)
    random = np.random.default_rng(0)
    masks = torch.from_numpy(random.random((6, 7)) < 0.5)
    images = torch.from_numpy(random.normal(size=(6, 3, SIDE, SIDE)).astype(np.float32))
    with torch.inference_mode():
        stem = gated.stem(images)
        together = gated.answered(stem, masks)
        alone = torch.cat([gated.answered(stem[k : k + 1], masks[k : k + 1]) for k in range(6)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_rewards_and_costs_by_hand() -> None:
    costs = Costs(2.0, (1.0, 3.0))
    shares = costs.shares([[1, 1], [0, 0], [1, 0]])
    np.testing.assert_allclose(shares, [1, 2 / 6, 3 / 6])
    np.testing.assert_allclose(rewards([True, True, False], shares, 5), [0, 1 - 1 / 9, -5])


def test_the_curriculum_and_the_bound() -> None:
    settings = PolicySettings(curriculum=0.5, joint=1.0)
    assert [decided(settings, 4, step, 16) for step in (0, 1, 2, 4, 6, 7, 8, 15)] == [1, 1, 2, 3, 4, 4, 4, 4]
    assert decided(PolicySettings(curriculum=0.0, joint=0.0), 4, 0, 16) == 4
    logits = torch.tensor([-50.0, 0.0, 50.0])
    torch.testing.assert_close(bounded(logits, 0.8), torch.tensor([0.2, 0.5, 0.8]))
    with pytest.raises(UsageError, match="bound"):
        PolicySettings(bound=0.5).check()


def test_the_gradient_is_reinforce_with_the_greedy_baseline(sealed: Run, data: SampleSet) -> None:
    """Against the formula, picture by picture: (R(û) - R(u)) ∂ log π(u) for what was sampled."""
    config = config_of(sealed, data, joint=1.0)
    train = reading.train_pictures(data, config)
    prepare.resolve_steps(config, len(train))
    settings = PolicySettings(curriculum=0.0, joint=1.0, entropy=0.0, bound=0.8)
    torch.manual_seed(5)
    gated = Gated(network_of(sealed))
    torch.nn.init.normal_(gated.policy.linear.weight, std=0.5)
    objective = Reinforced(gated, config, settings, EVEN).train()
    batch = TrainLoader(train, config).make(0)
    torch.manual_seed(9)
    loss, logs = objective(batch)
    loss.backward()
    found = gated.policy.linear.bias.grad.clone()  # type: ignore[union-attr]
    images = objective.labels.inputs(batch).images
    with torch.no_grad():
        stem = gated.stem(images)
        logits = gated.policy(stem)
        keep = bounded(logits, 0.8)
        torch.manual_seed(9)
        sampled = torch.bernoulli(keep) > 0.5
    expected = torch.zeros(7)
    for k in range(8):
        free = logits[k].clone().requires_grad_()
        chance = torch.where(sampled[k], bounded(free, 0.8), 1 - bounded(free, 0.8)).log().sum()
        chance.backward()
        reward = [
            float(
                rewards(
                    [gated.answered(stem[k : k + 1], one[None]).argmax() == batch.labels[k]],
                    EVEN.shares(one[None]),
                    5.0,
                )[0]
            )
            for one in (sampled[k], logits[k] >= 0)
        ]
        assert free.grad is not None
        expected -= (reward[0] - reward[1]) * free.grad / 8
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert logs["seen"] == 8
    assert all(parameter.grad is None for parameter in gated.net.parameters())


def test_the_network_learns_from_labels_and_from_what_it_answered_as_a_whole(sealed: Run, data: SampleSet) -> None:
    """Losses of the same choices, sampled by a seed, against the formulas."""
    config = config_of(sealed, data, joint=0.0)
    config.data.mean, config.data.std = list(MEAN), list(STD)  # as the Run's, where it is not a test's
    assert config.optimizer.lr == pytest.approx(1e-4)  # the network learns from the start
    assert config.schedule.milestones == pytest.approx([2 / 3])
    train = reading.train_pictures(data, config)
    prepare.resolve_steps(config, len(train))
    batch = TrainLoader(train, config).make(0)
    gated = Gated(network_of(sealed)).eval()
    teacher = Teacher(sealed, config, sealed.classes)

    def loss_of(taught: float, entropy: float = 0.0) -> float:
        settings = PolicySettings(bound=0.8, curriculum=0.0, joint=0.0, entropy=entropy)
        own = override(config, {"distill.weight": taught or 0.5})  # without a teacher it has no effect
        objective = Reinforced(gated, own, settings, EVEN, teacher if taught else None).train()
        torch.manual_seed(9)
        return float(objective(batch)[0].detach())

    images = Reinforced(gated, config, PolicySettings(), EVEN).labels.inputs(batch).images
    with torch.no_grad():
        stem = gated.stem(images)
        keep = bounded(gated.policy(stem), 0.8)
        torch.manual_seed(9)
        ours = gated.answered(stem, torch.bernoulli(keep) > 0.5).double().softmax(1)
        theirs = network_of(sealed).eval()(images).double().softmax(1)
    by_label = float(-ours[torch.arange(8), batch.labels].log().mean())
    by_teacher = float((theirs * (theirs / ours).log()).sum(1).mean())
    labels_alone = loss_of(0.0)
    for taught in (0.25, 1.0):
        expected = labels_alone + taught * (by_teacher - by_label)
        assert loss_of(taught) == pytest.approx(expected, abs=1e-4)
    chance = keep.double()
    each = -(chance * chance.log() + (1 - chance) * (1 - chance).log())
    assert loss_of(0.0, entropy=0.5) == pytest.approx(labels_alone - 0.5 * float(each.sum(1).mean()), abs=1e-4)
    assert (config.distill.weight, config.distill.temperature) == (0.5, 1.0)


@pytest.mark.parametrize(("pictures", "batch"), [(5, 5), (100, 16), (900, 28), (4096, 128), (50_000, 128)])
def test_a_pass_over_few_pictures_is_many_updates(pictures: int, batch: int) -> None:
    assert batch_for(pictures) == batch


def test_the_rate_falls_when_the_network_learns_and_once_more(sealed: Run, data: SampleSet) -> None:
    schedule = config_of(sealed, data, joint=0.4).schedule
    assert (schedule.name, schedule.gamma) == ("step", 0.05)
    assert schedule.milestones == pytest.approx([0.4, 0.8])


def test_a_policy_learns_to_drop_what_adds_nothing(sealed: Run, data: SampleSet, tmp_path: Path) -> None:
    """A real effect: with a small penalty for errors, time goes down and the reward up."""
    run = copied(sealed, tmp_path)
    config = config_of(run, data, epochs=8.0, joint=1.0)
    config.optimizer.lr = 0.03
    settings = PolicySettings(penalty=0.0, curriculum=0.2, joint=1.0)
    found = learn(run, data, config, settings, "blocks", lambda: EVEN, Recorder(), ONE)
    first, last = found.history[0], found.history[-1]
    assert last["reward"] > first["reward"]
    assert last["share"] < 0.6
    assert not found.changed
    assert not (run.path / "artifacts" / "blocks").exists()


def digest(net: Any) -> str:
    total = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        total.update(name.encode() + value.contiguous().numpy().tobytes())
    return total.hexdigest()


def test_what_was_interrupted_goes_on_bitwise(
    sealed: Run, data: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the first epoch's checkpoint, before the policy was measured, and in the middle of another one."""

    class Stop(Exception):
        pass

    def killed(*_: Any) -> Any:
        raise Stop

    def fail(done: int) -> None:
        if done == 7:
            raise Stop

    settings = PolicySettings(curriculum=0.3, joint=0.5)
    results = []
    for name, interrupted in (("whole", False), ("parts", True)):
        (tmp_path / name).mkdir()
        run, config = copied(sealed, tmp_path / name), config_of(sealed, data, joint=0.5)
        config.save_steps = 3
        if interrupted:
            with monkeypatch.context() as patch:
                patch.setattr(learning, "measured", killed)
                with pytest.raises(Stop):
                    learn(run, data, config, settings, "blocks", lambda: EVEN, Recorder(), ONE)
            with pytest.raises(Stop):
                learn(run, data, config, settings, "blocks", lambda: EVEN, Recorder(on_step=fail), ONE)
            with pytest.raises(UsageError, match="other settings"):
                learn(run, data, config, replace(settings, penalty=1.0), "blocks", lambda: EVEN, Recorder(), ONE)
            with pytest.raises(UsageError, match="other settings"):  # costs were measured for one thread
                learn(run, data, config, settings, "blocks", lambda: EVEN, Recorder(), ONE | {"threads": 2})

        def costs(again: bool = interrupted) -> Costs:
            assert not again, "costs are measured only where a training begins"
            return EVEN

        results.append(learn(run, data, config, settings, "blocks", costs, Recorder(), ONE))
    assert digest(results[0].gated) == digest(results[1].gated)
    assert results[0].history == results[1].history
    assert results[0].changed
    lines = [(one.folder / HISTORY).read_text("utf-8").splitlines() for one in results]
    assert [[json.loads(line)["step"] for line in own] for own in lines] == [
        [entry["step"] for entry in one.history] for one in results
    ]


def test_routes_are_the_most_likely_of_the_allowed_policies() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(50, 4)).astype(np.float32)
    policies = frequent(logits, 3)
    kept = [tuple(row) for row in logits >= 0]
    counts = sorted((kept.count(one) for one in set(kept) - {(True,) * 4}), reverse=True)
    assert [kept.count(tuple(row)) for row in policies] == counts[:3]
    everything = np.vstack([policies, np.ones((1, 4), bool)])
    scores = scores_of(logits, everything)
    chances = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for row, chance in zip(scores, chances, strict=True):
        likelihood = [np.prod(np.where(one, chance, 1 - chance)) for one in everything]
        assert row.argmax() == np.argmax(likelihood)
    right = random.random((50, 4)) < 0.7
    right[:, -1] = True
    routes = Routes(scores, right, (1.0, 2.0, 3.0, 4.0), 0.1)
    points = routes.curve(11)
    assert points[0].on == 0
    assert points[-1].on == 1
    assert points[-1].seconds == pytest.approx(4.1)
    assert points[-1].accuracy == 1
    assert all(one.on <= other.on for one, other in itertools.pairwise(points))


def test_an_artefact_of_sub_networks(sealed: Run, data: SampleSet, tmp_path: Path) -> None:
    """From the policy to the answer: every route's answer is that of its sub-network, alone and in a batch."""
    run = copied(sealed, tmp_path)
    config = config_of(run, data, epochs=4.0)
    config.optimizer.lr = 0.01
    rates = rating(whole=100.0, gate=10_000.0, **{f"route-{k}": 400.0 for k in range(3)})
    said: list[str] = []
    made = blocks(
        run,
        data,
        config,
        name="blocks",
        settings=PolicySettings(penalty=0.0),
        report=Recorder(),
        max_drop=100,
        say=said.append,
        timing=timing(),
        rating=rates,
    )
    about = made.artifact.card.adaptive
    assert about["rule"] == "blocks"
    assert about["routes"][-1]["name"] == "whole"
    only = max(about["routes"], key=lambda route: route["share"]["val"])["share"]["val"] == 1
    assert only == any("the policy chooses nothing" in line for line in said)
    assert "18 validation pictures are too few" in made.artifact.card.notes[-1]  # of 'unknown'
    draft = shutil.copytree(made.artifact.path, tmp_path / "draft")
    plan = read_plan(made.artifact.graph, made.artifact.sha256)
    backend = opened(draft, tell(run, data, pixels(24), draft, plan, 1, print).plan, 1)
    square = pixels(12)
    together = backend.answer(square, ("route", "logits", "probabilities", "unlike"))
    for k in range(12):
        alone = backend.answer(square[k : k + 1], ("route", "logits", "probabilities", "unlike"))
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(one[k], other[0], atol=1e-6)
    assert (made.artifact.path / "policy.png").read_bytes().startswith(b"\x89PNG")
    assert not (run.path / "artifacts" / ".training-blocks").exists()


def test_costs_are_shared_out_by_stage(sealed: Run, tmp_path: Path) -> None:
    found = measure_costs(
        sealed, Parts("onnxruntime", 1, tmp_path), rating(whole=1.0, layer1=4.0, layer2=2.0, layer3=1.25)
    )
    np.testing.assert_allclose(found.blocks, [0.25, 0.25, 0.25, 0.25, 0.25, 0.1, 0.1])
    assert found.fixed == 0  # the parts were noisy: together more than the whole


def test_the_environment_passes_gymnasiums_checker(sealed: Run, data: SampleSet) -> None:
    pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    from resight.adapting.bandit import environment_of

    environment = environment_of(sealed, data, EVEN, part="train", most=6)
    check_env(environment, skip_render_check=True)
    observation, info = environment.reset(seed=1, options={"picture": 2})
    assert info == {"picture": 2}
    assert environment.observation_space.contains(observation)
    _, reward, ended, cut, info = environment.step(np.zeros(7, np.int8))
    assert (ended, cut) == (True, False)
    assert info["share"] == pytest.approx(1 / 8)
    assert reward == pytest.approx(1 - 1 / 64 if info["right"] else -5)
    with pytest.raises(UsageError, match="expected 0 or 1 for each of 7 blocks"):
        environment.step(np.zeros(3, np.int8))
