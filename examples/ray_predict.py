"""Answers for a folder of pictures with Ray Data: as many actors as wanted, each opens the Run once.

    pip install 'resight[ray]'
    python examples/ray_predict.py runs/flowers photos/ answers/ --actors 4

Writes Parquet files into ``answers/``. Ray runs on this machine; on a cluster, Run and pictures must lie where every
machine sees them, and ``ray.init()`` finds the cluster by itself.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use to its makers unless told not to

import ray
import resight
from resight.samples import find_images


def answer(run: Path, pictures: Path, out: Path, actors: int) -> None:
    """Only names travel to the actors; each of them reads its pictures."""
    names = [str(path.resolve()) for path in find_images([pictures])]
    rows = ray.data.from_items([{"path": name} for name in names])
    found = rows.map_batches(
        resight.BatchPredictor,
        fn_constructor_args=(str(run.resolve()),),
        fn_constructor_kwargs={"column": "path", "top": 5, "threads": 1},
        batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=1,
    )
    found.write_parquet(str(out.resolve()))


def main() -> None:
    parser = argparse.ArgumentParser(description="Answers for a folder of pictures with Ray Data.")
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path, help="a folder for Parquet files")
    parser.add_argument("--actors", type=int, default=2, help="processes that answer, each with one processor")
    asked = parser.parse_args()
    ray.init(include_dashboard=False)
    answer(asked.run, asked.pictures, asked.out, asked.actors)


if __name__ == "__main__":
    main()
