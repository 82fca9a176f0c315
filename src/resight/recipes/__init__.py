"""How to train: typed configurations, and recipes that return complete ones."""

from resight.recipes.balances import BALANCES, balance_wishes
from resight.recipes.config import TrainConfig, override
from resight.recipes.effects import check_effects
from resight.recipes.multilabel import check_task, check_wishes
from resight.recipes.pretraining import METHODS, pretraining_recipe
from resight.recipes.recipes import DEEP, RECIPES, WARMUP, Facts, recipe

__all__ = [
    "BALANCES",
    "DEEP",
    "METHODS",
    "RECIPES",
    "WARMUP",
    "Facts",
    "TrainConfig",
    "balance_wishes",
    "check_effects",
    "check_task",
    "check_wishes",
    "override",
    "pretraining_recipe",
    "recipe",
]
