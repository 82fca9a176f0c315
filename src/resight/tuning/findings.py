"""What a study found: as a table for people, as plain values for study.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from resight.evaluation import wilson
from resight.recipes.options import text_of, train_command
from resight.tuning.repeats import Repeated, shown_score, winner
from resight.tuning.study import Study

if TYPE_CHECKING:
    import optuna

_MANY = 10  # complete trials before it is said which dimension matters
_NAMES = {
    "optimizer.lr": "lr",
    "optimizer.weight_decay": "decay",
    "data.image_size": "size",
    "label_smoothing": "smoothing",
}


def findings(study: Study, repeated: Sequence[Repeated], pictures: int) -> dict[str, Any]:
    """Everything that was found, as plain values.

    pictures: of the validation part. best: None while no trial is complete. importance: share of the scores' variance
    by dimension (fANOVA, Hutter et al. 2014), once there are ten complete trials.
    """
    rows = [_row(study, trial) for trial in study.journal.get_trials(deepcopy=False) if trial.state.is_finished()]
    found: dict[str, Any] = {
        "objective": study.asked.objective,
        "score": study.score_name,
        "validation_pictures": pictures,
        "trials": rows,
        "repeated": [{**asdict(r), "mean": r.mean, "deviation": _number(r.deviation)} for r in repeated],
        "importance": importance(study),
        "best": None,
    }
    if study.complete():
        best = winner(study, repeated)
        row = next(row for row in rows if row["number"] == best.number)
        wishes = {**study.asked.wishes, **study.settings(best)}
        found["best"] = {**row, "command": train_command(study.asked.data, study.asked.recipe, wishes)}
    return found


def _row(study: Study, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    values = {d.field: d.base for d in study.dims} | study.settings(trial)
    attributes = trial.user_attrs
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "score": trial.value if trial.state.name == "COMPLETE" else None,
        "val_accuracy": attributes.get("val_accuracy"),
        "val_recall": attributes.get("val_recall"),
        "val_loss": attributes.get("val_loss"),
        "epochs": max(trial.intermediate_values, default=0),
        "seconds": attributes["seconds"],
        "note": attributes["note"],
        "values": values,
        "first_epoch": min(trial.intermediate_values, default=1),
        "curve": [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)],
        "run": study.folder(trial.number).name,
    }


def importance(study: Study) -> dict[str, float] | None:
    """Share of the variance by field, the largest first; None with few trials, or equal scores."""
    done = study.complete()
    if len(done) < _MANY or len({trial.value for trial in done}) == 1:
        return None
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    return dict(get_param_importances(study.journal, evaluator=FanovaImportanceEvaluator(seed=0)))


def _number(value: float) -> float | None:
    return value if value == value else None


def to_text(found: Mapping[str, Any]) -> str:
    """For a terminal: trials by score, other seeds, what matters, the best."""
    lines = [*_table(found), ""]
    lines += _repeats(found)
    if found["importance"]:
        shares = ", ".join(f"{short(name)} {100 * share:.0f} %" for name, share in found["importance"].items())
        lines += [f"share of the scores' variance by dimension (fANOVA): {shares}", ""]
    return "\n".join(lines + _best(found))


def _table(found: Mapping[str, Any]) -> list[str]:
    rows = found["trials"]
    sign = -1.0 if found["objective"] == "accuracy" else 1.0
    complete = [row for row in rows if row["state"] == "complete"]
    ordered = sorted(complete, key=lambda row: (sign * row["score"], row["val_loss"]))
    ordered += [row for row in rows if row["state"] != "complete"]
    fields = list(rows[0]["values"]) if rows else []
    recall = ["val mean recall"] if found["score"] == "mean recall" else []
    cells = [["trial", *recall, "val accuracy", "val loss", "epochs", "time", *map(short, fields), ""]]
    for row in ordered:
        done = row["state"] == "complete"
        cells.append(
            [
                str(row["number"]),
                *([f"{100 * row['val_recall']:.2f} %" if done else "–"] if recall else []),
                f"{100 * row['val_accuracy']:.2f} %" if done else "–",
                f"{row['val_loss']:.4f}" if done else "–",
                str(row["epochs"]),
                f"{row['seconds']:.0f} s",
                *(_shown(row["values"][name]) for name in fields),
                "the recipe's own" if row["number"] == 0 else "" if done else f"stopped: {row['note']}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([*(c.rjust(w) for c, w in zip(line[:-1], widths, strict=False)), line[-1]]).rstrip() for line in cells
    ]


def _repeats(found: Mapping[str, Any]) -> list[str]:
    if not found["repeated"]:
        return []
    seeds = len(found["repeated"][0]["seeds"])
    lines = [f"validation {found['score']} with {seeds} other seeds (the first one was picked for being good):"]
    by_number = {row["number"]: row for row in found["trials"]}
    for one in found["repeated"]:
        spread = f" ± {shown_score(one['deviation'], found['objective'])}" if one["deviation"] is not None else ""
        scores = ", ".join(shown_score(value, found["objective"]) for value in one["scores"])
        first = shown_score(by_number[one["number"]]["score"], found["objective"])
        mean = shown_score(one["mean"], found["objective"])
        own = ", the recipe's own" if one["number"] == 0 else ""
        lines.append(f"  trial {one['number']}{own}: mean {mean}{spread}   ({scores}; at first {first})")
    return [*lines, ""]


def _best(found: Mapping[str, Any]) -> list[str]:
    best = found["best"]
    if best is None:
        return ["no trial came to its end"]
    pictures = found["validation_pictures"]
    share = wilson(best["val_accuracy"] * pictures, pictures)
    recall = f"mean recall {100 * best['val_recall']:.2f} %, " if best["val_recall"] is not None else ""
    lines = [
        f"best: trial {best['number']}, validation {recall}accuracy {100 * best['val_accuracy']:.2f} % of {pictures:,} "
        f"pictures (95 % interval {100 * share.low:.1f} to {100 * share.high:.1f}; the best of many is lucky too)"
    ]
    own = next((row for row in found["trials"] if row["number"] == 0 and row["state"] == "complete"), None)
    if best["number"] == 0:
        lines.append("nothing was better than the recipe's own values")
    elif own:
        score, what = ("val_recall", "mean recall ") if recall else ("val_accuracy", "")
        gain = 100 * (best[score] - own[score])
        lines.append(f"the recipe's own values: {what}{100 * own[score]:.2f} %, {gain:.2f} points less")
    return [*lines, f"train it again: {best['command']}"]


def short(name: str) -> str:
    """A field's name for a column."""
    return _NAMES.get(name, name.rpartition(".")[2])


def _shown(value: Any) -> str:
    return text_of(value)
