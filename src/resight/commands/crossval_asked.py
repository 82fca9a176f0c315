"""What a cross-validation was asked for: the plan that it is known by, and what each fold is trained with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resight.commands.own_data import check_unseen, run_at
from resight.commands.train import seconds_of, train
from resight.commands.whole_only import refuse_tiles
from resight.errors import UsageError
from resight.runs import CONFIG, Run
from resight.runs.crossval import SCHEMA
from resight.samples import SampleSet

_OWN = (
    "data",
    "seed",
    "out",
    "set",
    "split",
    "from_run",
    "keep_absent",
)  # options of train that crossval decides over, or takes itself
_OF_THE_LOOP = (
    "epochs",
    "batch",
    "memory",
    "lr",
    "freeze",
    "layer_decay",
    "teacher",
)  # of train, without effect on the probe
_FIELDS = ("seed", "data.val_fraction", "data.channels", "data.skip_bad")  # what the folds are decided by


@dataclass(frozen=True)
class Asked:
    """What was asked for. ``given``: options of ``train`` and fields of the configuration, as they are recorded."""

    data: Path
    folds: int
    seed: int
    val_fraction: float
    channels: int
    skip_bad: bool
    options: dict[str, Any]
    fields: dict[str, Any]

    @classmethod
    def of(
        cls, data: str | Path, folds: int, seed: int | None, fields: Mapping[str, Any] | None, options: dict[str, Any]
    ) -> Asked:
        """Raises UsageError for what ``train`` does not know, or cannot have here."""
        from resight.recipes import TrainConfig, override

        known = [name for name in inspect.signature(train).parameters if name not in _OWN]
        strange = [name for name in options if name not in known]
        if strange:
            raise UsageError(f"crossval has no option {', '.join(strange)}", hint=f"those of train: {', '.join(known)}")
        fields = dict(fields or {})
        if "data.test_fraction" in fields:
            raise UsageError("data.test_fraction would have no effect: each fold is the test part once")
        refuse_tiles({"model.weights": options.get("weights"), **fields}, "resight crossval")
        wishes: dict[str, Any] = {name: fields[name] for name in _FIELDS if name in fields}
        given = {"seed": seed, "data.channels": options.get("channels")}
        wishes = {name: value for name, value in given.items() if value is not None} | wishes
        config = override(TrainConfig(), wishes)
        kept = {name: value for name, value in options.items() if value is not None}
        if "auto" in (kept.get("model"), fields.get("model.name")):
            raise UsageError(
                "--model auto could choose another network in each fold", hint="run resight advise first, and name it"
            )
        skip = bool(config.data.skip_bad or kept.get("skip_bad"))
        chosen = config.data
        return cls(Path(data), folds, config.seed, chosen.val_fraction, chosen.channels, skip, kept, fields)

    def plan(self, samples: SampleSet) -> dict[str, Any]:
        """What crossval.json begins with: equal for equal wishes and equal data."""
        held = sum(sample.split == "test" for sample in samples.samples)
        return {
            "schema": SCHEMA,
            "status": "training",
            "data": {
                "path": str(self.data.resolve()),
                "fingerprint": samples.fingerprint(),
                "pictures": len(samples) - held,
                "held_out": held,
            },
            "folds": self.folds,
            "seed": self.seed,
            "settings": {name: _plain(value) for name, value in sorted((self.options | self.fields).items())},
        }

    def check_weights(self, samples: SampleSet) -> None:
        """Raises UsageError for weights of a Run that learned from these pictures, or perhaps did: every fold would
        know its test.
        """
        for field, option in (("model.weights", "weights"), ("distill.teacher", "teacher")):
            run = run_at(self.fields.get(field, self.options.get(option)))
            if run is not None:
                check_unseen(run, samples, option)

    def training(self, first: Run | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options and fields for one fold. What the first fold measured, it measured for all: the steps of a budget, or
        that it leaves time for the probe alone, and the micro-batch.
        """
        options, fields = dict(self.options), {k: v for k, v in self.fields.items() if k != "data.val_fraction"}
        fields["seed"] = self.seed
        budget = options.pop("budget", None)
        seconds = fields.pop("budget_seconds", None if budget is None else seconds_of(budget))
        if first is None:
            return options, fields | ({} if seconds is None else {"budget_seconds": float(seconds) / self.folds})
        from resight.recipes import TrainConfig

        config = TrainConfig.from_json(first.read(CONFIG), str(first.path / CONFIG))
        if seconds is not None and config.transfer.rung == "features":
            if first.card.transfer.get("folds"):  # it was chosen by pictures, not by time: each fold chooses
                return options, fields | {"budget_seconds": float(seconds) / self.folds}
            return self._probe_alone(options, fields)
        if seconds is not None:
            fields["total_steps"] = config.total_steps
            if config.transfer.rung == "lpft":
                fields |= {f"transfer.{name}": getattr(config.transfer, name) for name in ("folds", "head")}
        if config.auto_batch:
            fields.pop("auto_batch", None)
            if options.get("batch") == "auto":
                del options["batch"]
        if config.micro_batch:  # also where memory decided it
            fields["micro_batch"] = config.micro_batch
        return options, fields

    def _probe_alone(self, options: dict[str, Any], fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Without what only updates would use, which ``train`` refuses there."""
        from resight.recipes import balance_wishes
        from resight.recipes.effects import needs_the_loop

        options = {name: value for name, value in options.items() if name not in _OF_THE_LOOP}
        if (balance := options.pop("balance", None)) is not None:
            fields = balance_wishes(balance, fields) | fields
        fields = {name: value for name, value in fields.items() if not needs_the_loop(name)}
        return options, fields | {"transfer.rung": "features"}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | type(None)) else str(value)
