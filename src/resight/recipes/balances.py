"""``--balance``: one word for classes of different size, and the fields that it sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resight.errors import UsageError
from resight.recipes.config import TrainConfig, override

BALANCES: dict[str, dict[str, Any]] = {
    "none": {},
    "weights": {"balance.weights": "effective"},
    "sampling": {"balance.sampling": "balanced"},
    "logit": {"balance.logit_adjustment": 1.0},
    "focal": {"loss": "focal"},
}
"""What is sought by each name. All but ``none`` also select the best epoch by the mean of the classes' recalls."""

_OFF = ("none", 0, "cross_entropy", "bce")


def balance_wishes(name: str, others: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that ``--balance NAME`` sets, except those that ``others``, the other wishes, set themselves.

    Raises UsageError for a name that does not exist, or when another wish turns off what this one asks for.
    """
    if name not in BALANCES:
        raise UsageError(f"there is no balance '{name}'", hint=f"one of: {', '.join(BALANCES)}")
    chosen = BALANCES[name]
    for field in chosen.keys() & others.keys():
        section, _, attribute = field.rpartition(".")
        config = override(TrainConfig(), {field: others[field]})
        value = getattr(getattr(config, section) if section else config, attribute)
        if value in _OFF:
            raise UsageError(
                f"--balance {name} and {field}={value} contradict each other", hint="leave one of them out"
            )
    wishes = {**chosen, "select": "balanced"} if chosen else {}
    return {field: value for field, value in wishes.items() if field not in others}
