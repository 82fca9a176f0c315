"""The measuring process: real updates, real checkpoints, real graphs, and once the whole way at a tiny scale.

It is a process of its own, so that its peak memory is a training's, and neither PyTorch's threads nor what it leaves
behind disturb whoever asked. It prints one JSON object a line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from resight.advising.facts import load, some
from resight.advising.rates import Basics, ReadRates
from resight.advising.timing import Nets
from resight.evaluation import evaluate
from resight.exporting.seal import seal
from resight.inference import Reference
from resight.inference.unknown import NEIGHBOURS, bank_size
from resight.recipes import TrainConfig, override
from resight.runs import CONFIG, SPLIT, Architecture, Run, RunCard
from resight.runs.storage import write_atomic
from resight.samples import SampleSet, split_csv
from resight.training import machine, prepare, reading
from resight.training.fit import Training
from resight.training.loader import TrainLoader
from resight.training.memory import peak_memory
from resight.training.objectives import objective_for
from resight.training.progress import Silent
from resight.training.validate import answers

SMALLEST = "resnet20"
_READ = 24  # pictures that reading is timed with
_EVALUATED = 1000  # pictures that an evaluation is timed with


def main(text: str) -> None:
    """``text``: JSON with ``data`` (path), ``bad`` (names), ``configs`` (of the candidates, the most needed first),
    ``counts`` (pictures by part), ``seconds`` (for all), ``folder`` (to write to), ``rehearse`` (whether to)."""
    began = time.perf_counter()
    asked = json.loads(text)
    configs = [TrainConfig.model_validate(plain) for plain in asked["configs"]]
    threads = machine.set_threads(configs[0].threads)
    machine.keep_memory()
    for config in configs:
        config.threads = threads
        if not config.data.mean:
            config.data.mean, config.data.std = [0.5] * config.data.channels, [0.25] * config.data.channels
    whole, _ = load(asked["data"], configs[0])
    samples = some(whole, frozenset(asked["bad"]))
    folder = Path(asked["folder"])
    nets = Nets(samples, whole, configs, folder, began + asked["seconds"])
    if asked["rehearse"]:
        basics = rehearse(samples, whole, configs[0], folder / "rehearsal", asked["counts"], nets.embeddings())
        tell(basics=asdict(basics))
    for config in one_for_each(configs, lambda c: c.data.image_size):
        tell(side=config.data.image_size, read=asdict(read_rates(samples, config)))
    for key, rates in nets.measure():
        tell(net=key, rates=asdict(rates))


def tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def one_for_each(configs: list[TrainConfig], key: Callable[[TrainConfig], Any]) -> Iterator[TrainConfig]:
    """The first configuration of each key."""
    seen = set()
    for config in configs:
        if key(config) not in seen:
            seen.add(key(config))
            yield config


# ── the whole way, at a tiny scale ─────────────────────────────────────────────────────────────────────────────


def rehearse(
    samples: SampleSet, whole: SampleSet, config: TrainConfig, path: Path, counts: dict[str, int], lengths: list[int]
) -> Basics:
    """Trains the smallest network for two steps and seals it, as ``resight train`` does: what every training takes.

    whole: the data set that ``samples`` are some of. lengths: of the candidates' embeddings.
    """
    start = time.perf_counter()
    config = _smallest(config, min(config.batch, len(samples.part("train")), 16))
    config.data.path = str(samples.root)
    net = prepare.build_net(config, len(samples.classes), None, lambda _: None)
    run = Run.create(path, _card(samples, config))
    write_atomic(path / CONFIG, config.to_json())
    split_csv.write(path / SPLIT, samples)
    train, val = reading.train_pictures(samples, config), reading.eval_pictures(samples, "val", config)
    training = Training(run, config, objective_for(net, config, whole), train, val, Silent())
    built = time.perf_counter() - start
    training.fit()
    trained = peak_memory()
    start = time.perf_counter()
    run.set_status("trained")
    logits = np.concatenate([part.cpu().numpy() for part in answers(training.objective, val, np.arange(len(val)), 64)])
    seal(run, net, samples, logits, lambda _: None)
    sealing = time.perf_counter() - start
    return Basics(
        fixed=built + sealing,
        trained_bytes=trained,
        sealed_bytes=peak_memory(),
        evaluating=_evaluating(samples, counts),
        reference={length: _reference(counts, length) for length in lengths},
    )


def _smallest(config: TrainConfig, batch: int) -> TrainConfig:
    side = min(config.data.image_size, 64)
    changes = {"model.name": SMALLEST, "data.image_size": side, "data.train_size": side, "data.start_scale": 1.0}
    changes["data.fix_share"] = 0.0
    config = config.model_copy(deep=True)
    config.model.options, config.model.weights = {}, None
    config.model.freeze = "none"  # a stage that this network may lack
    return override(config, changes | {"total_steps": 2, "batch": batch, "micro_batch": 0, "budget_seconds": 0.0})


def _card(samples: SampleSet, config: TrainConfig) -> RunCard:
    return RunCard(
        architecture=Architecture(config.model.name, dict(config.model.options)),
        classes=samples.classes,
        channels=config.data.channels,
        geometry=reading.geometry_of(config),
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
    )


def _evaluating(samples: SampleSet, counts: dict[str, int]) -> float:
    """Seconds to evaluate validation and test, whatever the network: intervals take longer than answers there."""
    random, seconds = np.random.default_rng(0), 0.0
    for count in (counts["val"], counts["test"]):
        some = min(count, _EVALUATED)
        if some:
            labels = random.integers(0, len(samples.classes), some)
            logits = random.normal(size=(some, len(samples.classes))).astype(np.float32)
            logits[np.arange(some), labels] += 2
            start = time.perf_counter()
            evaluate(logits, labels, samples.classes, temperature=1.0)
            seconds += (time.perf_counter() - start) * count / some
    return seconds


def _reference(counts: dict[str, int], length: int) -> float:
    """Seconds to fit ``reference.safetensors`` and to score validation with it."""
    random, start = np.random.default_rng(0), time.perf_counter()
    count = min(counts["train"], bank_size(length))
    rows = random.normal(size=(count, length)).astype(np.float32)
    known = random.normal(size=(counts["val"], length)).astype(np.float32)
    fitted = Reference.fit(rows, np.arange(count) % 2, np.arange(count), [""] * count)
    fitted.scorer(NEIGHBOURS)(known)
    return time.perf_counter() - start


# ── pictures ───────────────────────────────────────────────────────────────────────────────────────────────────


def read_rates(samples: SampleSet, config: TrainConfig) -> ReadRates:
    """Seconds to make a picture of a batch, the first time and again, in one thread; and what it takes to keep one."""
    config = config.model_copy(deep=True)
    config.batch, config.total_steps, config.data.cache_gb = min(_READ, len(samples.part("train"))), 1000, 4.0
    config.data.start_scale, config.data.fix_share = 1.0, 0.0
    train, val = reading.train_pictures(samples, config), reading.eval_pictures(samples, "val", config)
    loader = TrainLoader(train, config)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        batch = loader.make(0)
        times.append((time.perf_counter() - start) / config.batch)
    start = time.perf_counter()
    squares = [val[i] for i in range(min(_READ, len(val)))]
    square = (time.perf_counter() - start) / len(squares)
    kept = float(np.mean([train[int(i)].nbytes for i in batch.indices]))
    return ReadRates(times[0], times[1], square, kept, float(np.mean([pixels.nbytes for pixels in squares])))
