"""The one training loop. Everything that happens is a function of the configuration and the step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from resight.errors import Interrupted, NonFiniteLoss, RunError, UsageError
from resight.recipes.config import TrainConfig
from resight.runs import CHECKPOINTS, HISTORY, Run
from resight.runs.plain_json import json_bytes
from resight.runs.storage import write_atomic
from resight.training.batches import ahead, split
from resight.training.checkpoint import (
    Checkpoint,
    State,
    load_optimizer,
    optimizer_tensors,
    save_checkpoint,
)
from resight.training.clock import Clock
from resight.training.compiling import compile_net
from resight.training.conditions import conditions
from resight.training.loader import Batch, Pictures, TrainLoader
from resight.training.machine import accelerator_for
from resight.training.objective import Objective
from resight.training.optim import Average, build_optimizer
from resight.training.parts import fix, freeze, set_training
from resight.training.phases import fix_start, rate_at
from resight.training.randomness import torch_seed
from resight.training.signals import StopRequest, stop_on_signal
from resight.training.validate import validate

_SUMS = ("loss", "correct", "seen")  # what an objective logs, summed over its pictures


class Reporter(Protocol):
    """Who is told how training goes: a progress bar, plain lines, or nobody."""

    def start(self, done: int, total: int, batch: int) -> None: ...
    def step(self, done: int, loss: float, rate: float) -> None: ...
    def epoch(self, entry: dict[str, Any], best: bool) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Judged(Protocol):
    """What is found after an epoch. loss: NaN where the network's answers are not finite."""

    @property
    def loss(self) -> float: ...
    def entry(self, config: TrainConfig) -> dict[str, Any]: ...


Judge = Callable[[Objective, Pictures, TrainConfig, Accelerator, int, Callable[[], bool]], Judged | None]


class Training:
    """One training in progress: the network, what changes it, and where it stands.

    start: what is known of the weights that training starts from (``train_loss``, ``train_accuracy``, ``seconds`` that
    they took), where they are a candidate for the best themselves; then they are validated first, as epoch 0.
    answered: the training pictures as they will be answered, which ``data.fix_share`` needs.
    judge: what is found of the network after each epoch; None: what validation says.
    """

    def __init__(
        self,
        run: Run,
        config: TrainConfig,
        objective: Objective,
        train: Pictures,
        val: Pictures,
        report: Reporter,
        start: Mapping[str, float] | None = None,
        answered: Pictures | None = None,
        judge: Judge | None = None,
    ) -> None:
        self.run, self.config, self.report, self.val = run, config, report, val
        self.start = start
        self.accelerator = accelerator_for(config)
        self.device = self.accelerator.device
        self.objective = objective.to(self.device)
        self.net = objective.net.to(memory_format=torch.channels_last)
        self.body, self.judge = objective.body, judge or validate
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        if config.batch % world:  # the mean of unequal shares' gradients would not be the batch's
            raise UsageError(
                f"a batch of {config.batch} pictures cannot be shared evenly by {world} processes",
                hint=f"use --batch {max(1, config.batch // world) * world}",
            )
        if config.data.fix_share and answered is None:
            raise ValueError("data.fix_share needs the pictures as they will be answered")
        self.loader = TrainLoader(train, config, rank=rank, world=world, answered=answered)
        self.optimizer = build_optimizer(self.body, config.optimizer, scaled=config.precision == "fp16")
        horizon = config.optimizer.average_epochs * self.loader.steps_per_epoch
        self.average = Average(self.net, horizon) if horizon else None
        self.wrapped, self.stepper = self.accelerator.prepare(self.objective, self.optimizer)
        share = config.batch // world
        self.state = State(micro_batch=share if objective.whole else min(config.micro_batch or share, share))
        self.scaler = getattr(self.accelerator, "scaler", None)
        self.saved, self.saved_time = "", time.monotonic()
        self.clock = Clock()
        self.compiled = self.fixed = False

    # ── one update ─────────────────────────────────────────────────────────────────────────────────────────

    def update(self, batch: Batch) -> None:
        """Set the rate, forward, backward, clip, step, average: one update from one effective batch."""
        config, step = self.config, self.state.step
        if config.compile and not self.compiled:
            self.compile()
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        # Whatever is drawn inside the network (stochastic depth) depends on seed, step and rank alone.
        torch.manual_seed(torch_seed(config.seed, step, self.accelerator.process_index))
        self.objective.train()  # what there is beside the network
        self.set_mode(step)
        parts = list(split(batch, self.state.micro_batch))
        totals = torch.zeros(len(_SUMS), device=self.device)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                with self.accelerator.autocast():
                    loss, logs = self.wrapped(part)
                self.accelerator.backward(loss * (len(part.labels) / len(batch.labels)))
            totals += torch.stack([logs[name] for name in _SUMS])
        sums = totals.tolist()  # here the CPU waits for a GPU, once an update
        self.check_finite(sums[0], rate, batch)
        if config.optimizer.clip:
            self.accelerator.clip_grad_norm_(self.body.parameters(), config.optimizer.clip)
        self.stepper.step()
        self.stepper.zero_grad(set_to_none=True)
        self.state.step += 1
        self.objective.stepped(self.state.step)
        self.count(sums)
        if self.average:
            self.average.update(self.net, self.state.step)

    def set_mode(self, step: int) -> None:
        """Which parts learn in update ``step``. ``data.fix_share`` begins with the weights that would be kept."""
        model, begin = self.config.model, fix_start(self.config)
        if step < begin:
            if self.fixed:  # only where steps are not taken in order, to measure them
                freeze(self.net, model.freeze)
            set_training(self.net, model)
        else:
            if step == begin and self.average:
                self.net.load_state_dict(self.average.state)
            fix(self.net, model)
        self.fixed = step >= begin

    def count(self, sums: list[float]) -> None:
        """Adds an update's sums, of all processes: so that a resume with only one state is exact for each."""
        if self.accelerator.num_processes > 1:
            shares = torch.tensor(sums, device=self.device)
            sums = self.accelerator.reduce(shares, "sum").tolist()
        loss, correct, seen = sums
        self.state.loss_sum += loss
        self.state.correct += correct
        self.state.seen += seen

    def rate(self, step: int) -> float:
        """The learning rate of update ``step``, from 0."""
        return rate_at(self.config, step)

    def check_finite(self, loss: float, rate: float, batch: Batch) -> None:
        """Raises NonFiniteLoss before the step that would store what made the loss NaN or infinite."""
        if math.isfinite(loss):
            return
        names = [self.loader.pictures.samples[int(i)].source for i in batch.indices[:3]]
        raise NonFiniteLoss(
            f"the loss became {loss} at step {self.state.step + 1} of {self.config.total_steps} "
            f"(learning rate {rate:g}; batch of {len(batch.labels)} pictures: {', '.join(names)}, …)",
            hint=f"train again with a lower rate, e.g. --lr {self.config.optimizer.lr / 10:g}, or with "
            "--set optimizer.clip=1; the last good checkpoint is kept",
        )

    def compile(self) -> None:
        """Prepares the network to be compiled, for the micro-batches as they are now."""
        compile_net(self.net, self.config, self.config.batch // self.accelerator.num_processes, self.state.micro_batch)
        self.compiled = True

    # ── the loop ───────────────────────────────────────────────────────────────────────────────────────────

    def fit(self) -> State:
        """Trains to the end, from wherever the state stands. Raises Interrupted after a signal, state saved."""
        config, state = self.config, self.state
        state.conditions = conditions(config, self.accelerator.num_processes)
        with stop_on_signal(self.report.say) as stop, closing(self.report):
            begins = self.start is not None and not state.history
            if not begins:
                self.save()  # so that even a training that is stopped in its first second can go on
            self.write_history()  # whoever was killed after a checkpoint had not written its epoch's line
            self.report.start(state.step, config.total_steps, config.batch)
            if begins:
                self.end_epoch(stop)  # saves, too
                self.stop_if_asked(stop)
            if self.epoch_due():  # interrupted between an epoch's last step and its validation
                self.end_epoch(stop)
                self.stop_if_asked(stop)
            if state.step == 0 and config.transfer.rung == "lpft" and config.transfer.head == "new":
                self.renew_head()
            if not state.stopped_early:
                try:
                    self.run_steps(stop)
                finally:
                    if self.config.total_steps:
                        self.report.say(self.clock.text())
        return state

    @torch.no_grad()
    def renew_head(self) -> None:
        """A last layer that has learned nothing, by the seed: the probe was a candidate, and is stored."""
        torch.manual_seed(self.config.seed)
        self.net.fc.reset_parameters()
        if self.average:
            for name, value in self.net.fc.state_dict().items():
                self.average.state[f"fc.{name}"].copy_(value)

    def run_steps(self, stop: StopRequest) -> None:
        config, state, clock = self.config, self.state, self.clock
        mark = time.perf_counter()
        batches = ahead(self.loader.batches(state.step, config.total_steps), self.device)
        for batch in clock.waiting(batches, "data"):
            with clock("compute"):
                self.update(batch)
            now = time.perf_counter()
            state.seconds, mark = state.seconds + now - mark, now
            self.report.step(state.step, state.loss_sum / max(1, state.seen), self.rate(state.step - 1))
            for remark in self.objective.remarks():
                self.report.say(remark)
            if self.epoch_due():
                self.end_epoch(stop)
                mark = time.perf_counter()
                if state.stopped_early:
                    break
            elif self.save_due():
                self.save()
            self.stop_if_asked(stop)

    def epochs_due(self) -> int:
        """Epochs whose steps are all done; the last one may be shorter than the others."""
        whole = self.state.step // self.loader.steps_per_epoch
        partial = self.state.step == self.config.total_steps and self.state.step % self.loader.steps_per_epoch
        return whole + bool(partial)

    def epoch_due(self) -> bool:
        return self.epochs_due() > self.state.epochs

    def end_epoch(self, stop: StopRequest) -> None:
        """Validates, remembers the best, saves. A signal meanwhile saves at once; resume validates then."""
        with self.clock("validation"):
            result = self.evaluate(stop)
        if result is None:
            self.stop_if_asked(stop)
            return
        state = self.state
        if not math.isfinite(result.loss):
            raise NonFiniteLoss(
                f"the validation loss is {result.loss} after step {state.step} of {self.config.total_steps} "
                f"(learning rate {self.rate(state.step - 1):g}); nothing was saved",
                hint="train again with a lower --lr; the last good checkpoint is kept",
            )
        entry = {**self.trained(), **result.entry(self.config), "seconds": state.seconds}
        state.history.append(entry)
        best = max(state.history, key=quality)
        state.best_step = best["step"]
        since_best = entry["epoch"] - best["epoch"]
        state.stopped_early = bool(self.config.patience) and since_best >= self.config.patience
        state.loss_sum = state.correct = state.seen = 0.0
        self.save()
        self.write_history()
        self.report.epoch(entry, best is entry)

    def write_history(self) -> None:
        """A line for each epoch that the checkpoint knows of."""
        if self.accelerator.is_main_process and self.state.history:
            lines = b"".join(json_bytes(entry, indent=None) for entry in self.state.history)
            write_atomic(self.run.path / HISTORY, lines)

    def trained(self) -> dict[str, Any]:
        """The entry of the epoch that has just ended, or of the start, without its validation."""
        state = self.state
        if state.step == 0 and self.start is not None:
            state.seconds, self.saved = self.start["seconds"], ""  # saved again, with the entry
            known = {name: self.start[name] for name in ("train_loss", "train_accuracy")}
            return {"epoch": 0, "step": 0, "lr": 0.0, **known}
        return {
            "epoch": state.epochs + 1,
            "step": state.step,
            "lr": self.rate(state.step - 1),
            "train_loss": state.loss_sum / state.seen,
            "train_accuracy": state.correct / state.seen,
        }

    def evaluate(self, stop: StopRequest) -> Any:
        """Validation with the weights that would be kept: the averaged ones where averaging is on."""
        current = None
        if self.average:
            current = {k: v.clone() for k, v in self.net.state_dict().items()}
            self.net.load_state_dict(self.average.state)
        if self.accelerator.num_processes > 1:  # norm statistics are per process; the first one's are saved
            current = current or {k: v.clone() for k, v in self.body.state_dict().items()}
            broadcast(list(self.body.buffers()))
        try:
            share = self.state.micro_batch  # what training has room for
            return self.judge(self.objective, self.val, self.config, self.accelerator, share, lambda: bool(stop.number))
        finally:
            if current:
                self.body.load_state_dict(current)

    def stop_if_asked(self, stop: StopRequest) -> None:
        number = stop.number
        if self.accelerator.num_processes > 1:  # all ranks must leave at the same step
            flag = torch.tensor([float(number)], device=self.device)
            number = int(self.accelerator.gather(flag).max().item())
        if number:
            self.save()
            raise Interrupted(
                f"stopped at step {self.state.step} of {self.config.total_steps}, saved",
                signal_number=number,
                hint=f"continue with: resight resume {self.run.path}",
            )

    # ── saving and restoring ───────────────────────────────────────────────────────────────────────────────

    def save_due(self) -> bool:
        if self.config.save_steps:
            return self.state.step % self.config.save_steps == 0
        return time.monotonic() - self.saved_time > 60 * self.config.save_minutes

    def save(self) -> None:
        """Writes a checkpoint of this moment, unless it is there already. One process writes.

        Raises NonFiniteLoss instead of storing weights that are not finite.
        """
        with self.clock("writing"):
            self._save()
        self.saved, self.saved_time = self.state.name, time.monotonic()

    def _save(self) -> None:
        if self.saved != self.state.name and self.accelerator.is_main_process:
            weights = self.body.state_dict()
            optimizer = optimizer_tensors(self.optimizer, self.body)
            average = self.average.state if self.average else {}
            everything = [*weights.values(), *optimizer.values(), *average.values()]
            if not all(torch.isfinite(v).all() for v in everything if v.is_floating_point()):
                raise NonFiniteLoss(
                    f"the weights are no longer finite after step {self.state.step} of "
                    f"{self.config.total_steps} (learning rate {self.rate(self.state.step - 1):g}); "
                    "they were not saved",
                    hint="train again with a lower --lr; the last good checkpoint is kept",
                )
            if self.scaler:
                self.state.scaler = self.scaler.state_dict()
            checkpoint = Checkpoint(weights, optimizer, average, self.state)
            save_checkpoint(self.run.path / CHECKPOINTS, checkpoint, self.config.keep)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint, exactly where it was made; says so where that cannot be bitwise."""
        self.body.load_state_dict(checkpoint.weights)
        load_optimizer(self.optimizer, self.body, checkpoint.optimizer)
        if self.average:
            if set(checkpoint.average) != set(self.average.state):
                raise RunError(f"checkpoint {checkpoint.state.name} holds no average of these weights")
            for name, tensor in checkpoint.average.items():  # copied, which keeps the memory format
                self.average.state[name].copy_(tensor)
        if self.scaler and checkpoint.state.scaler:
            self.scaler.load_state_dict(checkpoint.state.scaler)
        self.state = checkpoint.state
        self.saved = self.state.name
        now = conditions(self.config, self.accelerator.num_processes)
        for name, value in self.state.conditions.items():
            if now.get(name) != value:
                self.report.say(f"{name} was {value} and is {now.get(name)}: the result will not be bitwise the same")


def quality(entry: Mapping[str, Any]) -> tuple[float, float]:
    """What makes an epoch the best: the validation's accuracy (mAP with any number of labels, the classes' mean recall
    where that is asked for), then the lower loss. Without labels the last one is.
    """
    if "val_loss" not in entry:
        return entry["step"], 0.0
    score = next(name for name in ("val_map", "val_recall", "val_accuracy") if name in entry)
    return entry[score], -entry["val_loss"]
