"""An agent of another library learns which blocks a picture needs: PPO of Stable-Baselines3 in Resight's environment.

    pip install 'resight[adapt,train]' stable-baselines3
    python examples/adapt_ppo.py RUN [--decisions 20000] [--pictures 1000] [--penalty 5] [--cost 0.1] [--seeds 0 1 2]

RUN was trained here, and its data is where it was. Beside PPO learns the trainer of ``resight adapt RUN --by blocks``
(REINFORCE), from the same training pictures, as they are, with as many decisions and the same costs; the network itself
does not learn. Costs are measured here, or, to repeat a training elsewhere, ``--cost`` of the whole time for each
block. What both earn on validation pictures is printed beside what three fixed rules earn.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from resight import Run
from resight.adapting.bandit import environment_of
from resight.adapting.environment import BlocksEnvironment
from resight.adapting.gated import droppable
from resight.adapting.learning import batch_for, learn, policy_config
from resight.adapting.policies import measure_costs
from resight.adapting.subnetworks import Parts
from resight.adapting.reinforce import PolicySettings
from resight.adapting.rewards import Costs
from resight.commands.own_data import load_own
from resight.models.from_run import network_of
from resight.recipes import TrainConfig, override
from resight.runs import CONFIG
from resight.training.progress import Silent


def earned(environment: BlocksEnvironment, number: int, choose) -> tuple[float, float, float]:
    """Mean reward, share of the full time, and accuracy of a rule: observation → 0 or 1 for each block."""
    rewards, shares, right = [], [], []
    for picture in range(number):
        observation, _ = environment.reset(options={"picture": picture})
        _, reward, _, _, info = environment.step(choose(observation))
        rewards.append(reward)
        shares.append(info["share"])
        right.append(info["right"])
    return float(np.mean(rewards)), float(np.mean(shares)), float(np.mean(right))


def evenly(samples, part: str, most: int) -> list:
    """At most so many samples of a part, evenly spaced."""
    own = samples.part(part)
    return [own[k] for k in np.unique(np.linspace(0, len(own) - 1, min(most, len(own))).round().astype(int))]


def ppo(train: BlocksEnvironment, decisions: int, seed: int):
    """The rule that PPO learned."""
    from stable_baselines3 import PPO

    agent = PPO("MlpPolicy", train, n_steps=512, batch_size=128, gamma=0.0, ent_coef=0.01, seed=seed, device="cpu")
    agent.learn(decisions)
    return lambda observation: agent.predict(observation, deterministic=True)[0]


def reinforce(run: Run, samples, costs, decisions: int, penalty: float, seed: int):
    """The rule that Resight's own trainer learned."""
    settings = PolicySettings(penalty=penalty, joint=1.0)
    number = len(samples.part("train"))
    own = TrainConfig.from_json(run.read(CONFIG), str(run.path / CONFIG))
    config = policy_config(run, own, epochs=decisions / number, batch=batch_for(number), seed=seed, joint=1.0)
    config = override(config, {"augment.crop": "none", "augment.flip": "none"})
    learned = learn(run, samples, config, settings, f"example-{seed}", lambda: costs, Silent(), {})
    learned.remove()
    policy = learned.gated.eval().policy

    def choose(observation: np.ndarray) -> np.ndarray:
        channels = policy.conv1.in_channels
        side = int((len(observation) / channels) ** 0.5)
        with torch.no_grad():
            seen = torch.from_numpy(observation).reshape(1, channels, side, side)
            return (policy.linear(policy.embedding(seen))[0] >= 0).numpy().astype(np.int8)

    return choose


def costs_of(run: Run, each: float | None) -> Costs:
    """As measured here, or ``each`` of the whole time for every block."""
    if each is None:
        with tempfile.TemporaryDirectory() as folder:
            return measure_costs(run, Parts("onnxruntime", 1, Path(folder)))
    number = len(droppable(network_of(run)))
    if not 0 < each * number <= 1:
        raise SystemExit(f"--cost {each:g}: {number} blocks together cost more than the whole network, or nothing")
    return Costs(1 - each * number, (each,) * number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--decisions", type=int, default=20_000)
    parser.add_argument("--pictures", type=int, default=1000, help="at most so many of each part")
    parser.add_argument("--penalty", type=float, default=5.0)
    parser.add_argument("--cost", type=float, help="of each block, as a share of the whole time; default: measured")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked = parser.parse_args()

    from stable_baselines3.common.env_checker import check_env

    run = Run.open(asked.run)
    samples = load_own(run)
    few = [one for part in ("train", "val") for one in evenly(samples, part, asked.pictures)]
    samples = replace(samples, samples=tuple(few))
    costs = costs_of(run, asked.cost)
    train, validation = (
        environment_of(run, samples, costs, part=part, most=asked.pictures, penalty=asked.penalty)
        for part in ("train", "val")
    )
    check_env(train, skip_render_check=True)

    number, blocks = len(samples.part("val")), len(costs.blocks)
    random = np.random.default_rng(asked.seeds[0])
    rules = {
        "every block": lambda _: np.ones(blocks, np.int8),
        "no block": lambda _: np.zeros(blocks, np.int8),
        "half, at random": lambda _: random.integers(0, 2, blocks, dtype=np.int8),
    }
    for seed in asked.seeds:
        rules[f"PPO, seed {seed}"] = ppo(train, asked.decisions, seed)
        rules[f"REINFORCE, seed {seed}"] = reinforce(run, samples, costs, asked.decisions, asked.penalty, seed)
    for name, rule in rules.items():
        reward, share, accuracy = earned(validation, number, rule)
        print(f"{name:18} reward {reward:+.3f}, {100 * share:.1f} % of the time, accuracy {100 * accuracy:.1f} %")


if __name__ == "__main__":
    main()
