"""Two processes, each with half of a batch: the loss and the gradient are those of one with all of it."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resight.pretraining.joint import joint, mean_of_all
from resight.pretraining.simclr import nt_xent
from resight.runs import HISTORY, Run


def layer() -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(5, 4)


def pictures() -> list[Tensor]:
    return list(torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(4)))


def gradient(views: list[Tensor]) -> tuple[float, Tensor]:
    net = layer()
    loss = nt_xent([net(view) for view in views], 0.2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert net.weight.grad is not None
    return float(loss.detach()), net.weight.grad


def test_negatives_of_two_processes_are_those_of_the_joint_batch(tmp_path: Path) -> None:
    from tests.training.test_distributed import torchrun  # here: the processes need no pytest

    done = torchrun(str(Path(__file__)), str(tmp_path))
    assert done.returncode == 0, done.stderr
    whole, wanted = gradient(pictures())
    parts = [np.load(tmp_path / f"rank{rank}.npz") for rank in (0, 1)]
    assert np.mean([part["loss"] for part in parts]) == pytest.approx(whole, abs=1e-6)
    # Data-parallel training takes the mean of the processes' gradients.
    np.testing.assert_allclose(np.mean([part["gradient"] for part in parts], axis=0), wanted.numpy(), atol=1e-6)
    for part in parts:
        np.testing.assert_array_equal(part["mean"], [0.5])


def test_two_processes_seal_one_run_that_learned_as_one_process_does(tmp_path: Path) -> None:
    from tests.training.test_distributed import torchrun
    from tests.training.tiny import Recorder, write_patterns

    from resight.commands import pretrain, resume

    data = write_patterns(tmp_path / "data", 20)
    wishes = {"model.name": "resnet20", "model.options.stem": "tiny", "batch": 16, "total_steps": 3}
    wishes |= {"device": "cpu", "data.workers": 0, "pretrain.hidden": 16, "pretrain.width": 8}
    settings = [word for name, value in wishes.items() for word in ("--set", f"{name}={value}")]
    done = torchrun("-m", "resight.cli", "pretrain", str(data), *settings, "--out", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("training: steps 0 … 3") == 1  # one process speaks
    run = Run.open(tmp_path / "two")
    assert (run.card.task, run.card.status) == ("features", "sealed")
    pretrain.start(data, "simclr", wishes, None, False, tmp_path / "one", lambda _: None)
    resume.finish(tmp_path / "one", Recorder(), to_seal=False)
    two, one = (json.loads((tmp_path / name / HISTORY).read_text().splitlines()[0]) for name in ("two", "one"))
    # The first updates' mean loss: each process has the norms of its own half of the batch.
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=0.05)


def test_one_process_keeps_its_rows() -> None:
    some = torch.randn(3, 2)
    assert joint(some) == (some, 0)
    assert mean_of_all(some) is some


def main(folder: Path) -> None:
    from torch import distributed as dist

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    loss, grad = gradient([view[rank::2] for view in pictures()])
    mean = mean_of_all(torch.tensor([float(rank)]))
    np.savez(folder / f"rank{rank}.npz", loss=loss, gradient=grad.numpy(), mean=mean.numpy())
    dist.destroy_process_group()


if __name__ == "__main__":
    assert "RANK" in os.environ
    warnings.simplefilter("error")
    main(Path(sys.argv[1]))
