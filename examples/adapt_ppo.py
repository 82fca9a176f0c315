"""An agent of another library learns which blocks a picture needs: PPO of Stable-Baselines3 in Resight's environment.

    pip install 'resight[adapt]' stable-baselines3
    python examples/adapt_ppo.py RUN [--decisions 20000] [--pictures 1000] [--penalty 5]

RUN was trained here, and its data is where it was. The agent learns on training pictures; what it earns on validation
pictures is printed beside what three fixed rules earn. ``resight adapt RUN --by blocks`` has a trainer of its own.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from resight import Run
from resight.adapting.bandit import environment_of
from resight.adapting.environment import BlocksEnvironment
from resight.adapting.policies import measure_costs
from resight.commands.own_data import load_own


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--decisions", type=int, default=20_000)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--penalty", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()

    from stable_baselines3 import PPO
    from stable_baselines3.common.env_checker import check_env

    run = Run.open(asked.run)
    samples = load_own(run)
    with tempfile.TemporaryDirectory() as folder:
        costs = measure_costs(run, "onnxruntime", 1, Path(folder))
    how = {"most": asked.pictures, "penalty": asked.penalty}
    train = environment_of(run, samples, costs, part="train", **how)
    validation = environment_of(run, samples, costs, part="val", **how)
    check_env(train, skip_render_check=True)
    agent = PPO(
        "MlpPolicy", train, n_steps=512, batch_size=128, gamma=0.0, ent_coef=0.01, seed=asked.seed, device="cpu"
    )
    agent.learn(asked.decisions)

    number = min(asked.pictures, sum(sample.split == "val" for sample in samples.samples))
    blocks = len(costs.blocks)
    random = np.random.default_rng(asked.seed)
    rules = {
        "PPO": lambda observation: agent.predict(observation, deterministic=True)[0],
        "every block": lambda _: np.ones(blocks, np.int8),
        "no block": lambda _: np.zeros(blocks, np.int8),
        "half, at random": lambda _: random.integers(0, 2, blocks, dtype=np.int8),
    }
    for name, rule in rules.items():
        reward, share, accuracy = earned(validation, number, rule)
        print(f"{name:16} reward {reward:+.3f}, {100 * share:.1f} % of the time, accuracy {100 * accuracy:.1f} %")


if __name__ == "__main__":
    main()
