"""Do maps point at what the answer rests on? Every method on a Run's test pictures, against random maps.

    python benchmarks/faithfulness.py RUN [--pictures 100] [--steps 6] [--random 1]

For each picture the map of the predicted class; deletion and insertion (Petsiuk et al. 2018) of the map and of random
maps of the same smoothness, see ``resight.explaining.faithfulness``. ``center`` is a bump in the middle that knows
nothing of the network: what pictures with the object in the middle give away. Intervals: paired bootstrap over the
pictures, 95 %. The sanity check (Adebayo et al. 2018) on the first pictures of each class in turn.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from common import row, save
from resight.attribution import METHODS, load_network, sanity
from resight.attribution.gradients import integrated_gradients, occlusion, smooth_grad
from resight.commands.eval import load_own
from resight.explaining import Faithfulness, class_activation, faithfulness, read_head
from resight.inference import Predictor
from resight.runs import Run
from resight.samples import Sample

Map = Callable[[np.ndarray, int], np.ndarray]
SHORTER = {
    "integrated-gradients": lambda net, square, k: integrated_gradients(net, square, k, steps=10),
    "smoothgrad": lambda net, square, k: smooth_grad(net, square, k, samples=6),
    "occlusion": lambda net, square, k: occlusion(net, square, k, patches=6),
}
"""The slow methods with fewer samples than ``resight explain`` takes, so that 100 pictures end in minutes."""


def center(square: np.ndarray, _: int) -> np.ndarray:
    """A Gaussian in the middle, a quarter of the side wide."""
    axis = np.linspace(-2, 2, len(square), dtype=np.float32)
    return np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / 2)


def interval(values: Iterable[float], seed: int = 0) -> tuple[float, float, float]:
    """The mean and its 95 % bootstrap interval, 10,000 resamples of the pictures."""
    array = np.array(list(values))
    drawn = np.random.default_rng(seed).integers(0, len(array), (10_000, len(array)))
    low, high = np.quantile(array[drawn].mean(axis=1), [0.025, 0.975])
    return float(array.mean()), float(low), float(high)


def spread(values: Iterable[float]) -> str:
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*interval(values))


def note(name: str, found: list[Faithfulness], seconds: list[float], correlations: list[float]) -> str:
    lost = spread(f.deletion - f.random_deletion.mean() for f in found)
    gained = spread(f.insertion - f.random_insertion.mean() for f in found)
    score = spread(f.score - f.random_scores.mean() for f in found)
    share = np.mean([f.score > f.random_scores.mean() for f in found])
    text = f"{name}: deletion {lost}, insertion {gained}, score {score} against random; beats the random mean on "
    text += f"{share:.0%} of {len(found)} pictures; {np.median(seconds):.3f} s a map"
    if correlations:
        text += (
            f"; rank correlation with a random network {np.mean(correlations):+.2f}, on {len(correlations)} pictures"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--random", type=int, default=1, help="random maps for each map")
    parser.add_argument("--sanity", type=int, default=6, help="pictures for the sanity check")
    args = parser.parse_args()
    run = Run.open(args.run)
    predictor, network, head = Predictor(run, backend="onnxruntime", threads=1), load_network(run), read_head(run)
    methods = {**METHODS, **SHORTER}
    del methods["gradcam"]  # equal to cam

    def cam(square: np.ndarray, k: int) -> np.ndarray:
        return class_activation(predictor.ask(square[None], ("features",))[0], head.weights[[k]])[0]

    maps: dict[str, Map] = {"center": center, "cam": cam}
    maps |= {name: lambda square, k, method=method: method(network, square, k) for name, method in methods.items()}
    samples = load_own(run)
    pictures = samples.part("test")
    pictures = [pictures[k] for k in np.random.default_rng(0).permutation(len(pictures))[: args.pictures]]
    found: dict[str, list[Faithfulness]] = {name: [] for name in maps}
    seconds: dict[str, list[float]] = {name: [] for name in maps}
    correlations: dict[str, list[float]] = {name: [] for name in maps}

    def measure(number: int, sample: Sample) -> None:
        square = run.card.geometry.apply(samples.read(sample, run.card.channels, geometry=run.card.geometry))
        k = int(predictor.ask(square[None], ("probabilities",))[0][0].argmax())
        for name, make in maps.items():
            start = time.perf_counter()
            heat = make(square, k)
            seconds[name].append(time.perf_counter() - start)
            found[name].append(
                faithfulness(
                    square,
                    heat,
                    lambda squares, k=k: predictor.ask(squares, ("probabilities",))[0][:, k],
                    run.card.mean,
                    steps=args.steps,
                    random=args.random,
                    seed=number,
                )
            )
            if number < args.sanity and name != "center":
                method = {"cam": METHODS["gradcam"], **methods}[name]
                correlations[name].append(sanity(method, network, square, k, heat=heat, count=1))

    signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background
    try:
        for number, sample in enumerate(pictures):
            measure(number, sample)
            print(f"{number + 1} of {len(pictures)}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("stopped: saving the pictures that are done", file=sys.stderr)
    done = min(map(len, found.values()))
    found = {name: results[:done] for name, results in found.items()}
    rows = []
    for name, results in found.items():
        for what, better in (("deletion", False), ("insertion", True)):
            ours = [float(getattr(f, what)) for f in results]
            theirs = [float(getattr(f, f"random_{what}").mean()) for f in results]
            rows.append(
                row(
                    f"{name}, {what}",
                    ("the map", ours),
                    ("random maps", theirs),
                    unit="area",
                    target=None,
                    equal="",
                    more_is_better=better,
                )
            )
    save(
        "faithfulness",
        title="Explanations: each method against random maps",
        target="",
        command="python benchmarks/faithfulness.py RUN",
        rows=rows,
        notes=[
            f"{run.card.architecture.name} of {run.card.geometry.size} px, {done} test pictures, "
            f"{args.steps} steps, {args.random} random map(s) for each map; medians and ranges over pictures above, "
            "means with 95 % paired bootstrap intervals here. Smaller deletion and larger insertion are better.",
            *(note(name, found[name], seconds[name], correlations[name]) for name in maps),
            "center knows nothing of the network: what it gains is the place of the objects.",
            "Slow methods with fewer samples than the command takes: integrated gradients 10 of 50 steps, SmoothGrad "
            "6 of 25 copies, occlusion 6 × 6 of 12 × 12 patches.",
        ],
        threads=1,
    )


if __name__ == "__main__":
    main()
