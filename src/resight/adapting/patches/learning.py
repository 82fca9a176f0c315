"""A tile policy's training: the one loop, in a folder of its own beside the artefacts, so that it can go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from resight.adapting.learning import begun, training_folder
from resight.adapting.patches.facts import Facts, facts_of, load_facts
from resight.adapting.patches.policy import Looked, LookPictures, LookSettings, TileCosts, TilePolicy, glance
from resight.images import decoder_versions
from resight.inference import Predictor
from resight.models.variants import create
from resight.recipes import TrainConfig, override
from resight.runs import Run
from resight.runs.plain_json import json_bytes
from resight.runs.storage import write_atomic
from resight.samples import SampleSet
from resight.training import prepare
from resight.training.checkpoint import newest
from resight.training.fit import Training
from resight.training.objective import Normalize

SEEN = "seen.json"
EPOCHS, BATCH, RATE = 30.0, 8, 3e-3


@dataclass(eq=False)
class LearnedLook:
    """The policy after the last update. history: what its training said after each epoch."""

    policy: TilePolicy
    normalize: Normalize
    costs: TileCosts
    history: list[dict[str, Any]]
    folder: Path

    def remove(self) -> None:
        """What going on needed."""
        shutil.rmtree(self.folder, ignore_errors=True)


def look_config(config: TrainConfig) -> TrainConfig:
    """A policy over tiles is trained on what the network says of them: nothing is augmented, and the schedule ends at
    zero. config: as `policy_config` makes it.
    """
    return override(config, {"optimizer.lr": RATE, "schedule.name": "cosine", "schedule.milestones": []})


def both_facts(
    run: Run,
    predictor: Predictor,
    samples: SampleSet,
    settings: LookSettings,
    name: str,
    say: Callable[[str], None],
) -> tuple[Facts, Facts]:
    """Of the training and the validation pictures. Kept beside the training in progress: looking takes minutes."""
    folder = _seen(run, name)
    about = {"data": samples.fingerprint(), "model": run.card.files, "tile": settings.tile, "side": settings.side}
    about |= {"backend": predictor.choice.name, "decoders": decoder_versions()}
    place = folder / SEEN
    if not place.is_file() or place.read_bytes() != json_bytes(about):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_atomic(place, json_bytes(about))
    found = []
    for part in ("train", "val"):
        path = folder / f"{part}.npz"
        if not path.is_file():
            facts_of(predictor, samples, part, settings.tile, settings.side, say).save(path)
        found.append(load_facts(path))
    return found[0], found[1]


def forget_facts(run: Run, name: str) -> None:
    """What was kept of looking at all tiles."""
    shutil.rmtree(_seen(run, name), ignore_errors=True)


def _seen(run: Run, name: str) -> Path:
    return training_folder(run, name).with_name(f".seen-{name}")


def new_policy(run: Run, settings: LookSettings, seed: int) -> TilePolicy:
    """As training begins with it, by the seed."""
    torch.manual_seed(seed)
    like = create(run.card.architecture.name, num_classes=len(run.classes), in_channels=run.card.channels).spec
    return TilePolicy(run.card.channels, settings.side, like)


def learn_to_look(
    run: Run,
    samples: SampleSet,
    parts: tuple[Facts, Facts],
    config: TrainConfig,
    settings: LookSettings,
    name: str,
    costs: Callable[[], TileCosts],
    report: Any,
    conditions: dict[str, Any],
) -> LearnedLook:
    """Trains, or goes on exactly where the newest checkpoint of the same settings was made: see `learning.learn`.

    Raises UsageError where a training of other settings was begun under this name; Interrupted after a signal, the
    state saved.
    """
    settings.check()
    config = config.model_copy(deep=True)
    prepare.resolve_steps(config, len(parts[0]))
    asked = {"config": config.model_dump(mode="json"), "settings": asdict(settings), "data": samples.fingerprint()}
    work, known = begun(run, name, config, asked | {"conditions": conditions}, lambda: asdict(costs()))
    table = TileCosts(**known)
    objective = Looked(new_policy(run, settings, config.seed), config, settings, table)
    train, val = (
        LookPictures([sample for sample in samples.samples if sample.split == part], facts)
        for part, facts in zip(("train", "val"), parts, strict=True)
    )
    training = Training(work, config, objective, train, val, report, judge=glance)
    if (checkpoint := newest(work, report.say)) is not None:
        training.restore(checkpoint)
    training.fit()
    return LearnedLook(objective.net, objective.normalize, table, list(training.state.history), work.path)  # type: ignore[arg-type]
