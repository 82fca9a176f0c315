"""A job that goes on computes the very groups that it would have computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.inference import tiny

from resight.inference import Prediction, Predictor
from resight.runs import Run

PICTURE = tiny.picture("red", side=tiny.SIZE)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny.make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 4])
def test_groups_are_those_of_an_uninterrupted_job(
    threads: int, batch: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which pictures are computed together, and by which session, for every number of pictures and every stop."""
    predictor = Predictor(run, threads=threads, batch=batch)
    found: list[tuple[int, list[int]]] = []

    def record(session: Any, items: list[tuple[int, Any]], *_: Any) -> list[Any]:
        found.append((id(session), [position for position, _ in items]))
        return [(item, [np.ones(3, np.float32)]) for item in items]

    monkeypatch.setattr(predictor._sharing, "_rows", record)

    def groups(number: int, start: int) -> list[tuple[int, list[int]]]:
        found.clear()
        sources = [PICTURE] * number
        names = [answer.source for answer in predictor.predict(sources, start=start)]
        assert names == [f"#{k}" for k in range(start, number)]
        return sorted(found, key=lambda group: group[1])

    for number in (1, 2, 5, 6, 7, 13, 24, 31):
        whole = groups(number, 0)
        for done in range(number + 1):
            start = predictor.restart(done, number)
            assert 0 <= start <= done
            assert done - start <= 2 * threads + batch
            rest = groups(number, start)
            assert rest == whole[len(whole) - len(rest) :]
            assert sum(len(group) for _, group in rest) == number - start


def test_answers_from_the_middle_on(run: Run, tmp_path: Path) -> None:
    files = [tiny.write_picture(tmp_path / f"{k}.png", tiny.CLASSES[k % 3], k) for k in range(20)]
    predictor = Predictor(run, threads=2, batch=4)
    whole: list[Prediction] = list(predictor.predict(files))
    for start in (0, 4, 8, 20):
        assert list(predictor.predict(files, start=start)) == whole[start:]
