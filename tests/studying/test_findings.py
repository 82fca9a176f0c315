"""What is made of the numbers, with numbers that are made up."""

from __future__ import annotations

from typing import Any

import pytest

from resight.studying.claims import claims
from resight.studying.findings import gradient_ratio, judge, points, shown, spread
from resight.studying.findings import to_text as text_of


def member(kind: str, depth: int, seed: int, error: float, response: float, first: float = 1.0) -> dict[str, Any]:
    errors = dict.fromkeys(("train_error", "val_error", "test_error"), error)
    norms = {"1": [9.0, first, 1.0, 1.0]}
    layers = ["conv1", "a", "b", "c"]
    return (
        {"kind": kind, "depth": depth, "seed": seed, "responses": [response] * 4, "gradients": norms}
        | errors
        | {"layers": layers}
    )


def found(members: list[dict[str, Any]], depths: tuple[int, ...] = (20, 56)) -> dict[str, Any]:
    """As ``findings`` makes it, of the fields that are read here."""
    nets = []
    for kind in ("plain", "residual"):
        for depth in depths:
            some = [m for m in members if (m["kind"], m["depth"]) == (kind, depth)]
            scores = {n: spread([m[n] for m in some]) for n in ("train_error", "val_error", "test_error")}
            nets.append({"kind": kind, "depth": depth, "n": len(some), "diverged": 0} | scores)
    changes = {}
    for kind in ("plain", "residual"):
        by = {(m["depth"], m["seed"]): m for m in members if m["kind"] == kind}
        seeds = sorted({s for _, s in by})
        values = [by[depths[-1], s]["val_error"] - by[depths[0], s]["val_error"] for s in seeds]
        changes[kind] = {name: spread(values) for name in ("train_error", "val_error", "test_error")}
    return {"members": members, "nets": nets, "depths": list(depths), "degradation": changes}


LIKE_THE_PAPER = [
    *(member("plain", 20, s, 0.10, 0.9) for s in (0, 1)),
    *(member("plain", 56, s, 0.15 + 0.01 * s, 1.0) for s in (0, 1)),
    *(member("residual", 20, s, 0.09, 0.6) for s in (0, 1)),
    *(member("residual", 56, s, 0.07, 0.3) for s in (0, 1)),
]


def test_findings_like_the_papers_are_said_to_be() -> None:
    rows = claims(found(LIKE_THE_PAPER))
    assert [row["verdict"] for row in rows] == [
        "as in the paper, all 2 seeds",
        "as in the paper, all 2 seeds",
        "as in the paper, all 2 seeds",
        "as in the paper: nothing vanishes",
        "as in the paper",
        "as in the paper",
    ]
    assert "training error +5.50 ± 0.71 points" in rows[0]["here"]
    assert "20: 8.75 %, 56: 6.97 %" in rows[1]["paper"]
    assert "plain: from 20 to 56 layers the training error changes by +5.50" in text_of(found(LIKE_THE_PAPER))


def test_findings_unlike_the_papers_are_said_to_be() -> None:
    swapped = [m | {"kind": {"plain": "residual", "residual": "plain"}[m["kind"]]} for m in LIKE_THE_PAPER]
    for m in swapped:
        if m["kind"] == "plain":
            m["gradients"] = {"1": [9.0, 1e-4, 1.0, 1.0]}
    rows = claims(found(swapped))
    assert all(row["verdict"].startswith("not as in the paper") for row in rows)


def test_seeds_that_disagree_decide_nothing() -> None:
    members = [
        m | {"val_error": m["val_error"] + (0.2 if m["seed"] and m["depth"] == 20 else 0)} for m in LIKE_THE_PAPER
    ]
    assert claims(found(members))[0]["verdict"] == "undecided: the 2 seeds differ in sign"
    one = [m for m in LIKE_THE_PAPER if m["seed"] == 0]
    assert claims(found(one))[0]["verdict"] == "as in the paper, by one seed"


@pytest.mark.parametrize(
    ("values", "said"),
    [([], "unknown"), ([0.1], "one seed"), ([0.1, 0.2], "higher"), ([-0.1, -0.2], "lower"), ([0.1, -0.1], "unclear")],
)
def test_a_change_is_judged_by_its_sign_over_seeds(values: list[float], said: str) -> None:
    assert judge(spread(values)) == said


def test_numbers_as_people_read_them() -> None:
    assert shown(spread([0.1])) == "10.00 %"
    assert shown(spread([0.1, 0.2])) == "15.00 ± 7.07 %"
    assert points(spread([-0.1, -0.1])) == "-10.00 ± 0.00 points"
    assert shown(None) == points(None) == "–"


def test_gradients_that_vanished_altogether_are_said_to_have() -> None:
    gone = [m | {"gradients": {"1": [9.0, 0.0, 1.0, 1.0]}} if m["kind"] == "plain" else m for m in LIKE_THE_PAPER]
    assert any(row["verdict"] == "not as in the paper" for row in claims(found(gone)))


def test_the_ratio_of_gradients_leaves_the_stem_out() -> None:
    assert gradient_ratio(member("plain", 20, 0, 0.1, 1.0, first=0.5)) == 0.5
    assert gradient_ratio({"gradients": {"1": [1.0, None, 1.0, 1.0]}}) is None
    assert gradient_ratio({"gradients": None}) is None
