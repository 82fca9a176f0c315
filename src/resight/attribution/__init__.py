"""Explanations that need gradients or many passes: PyTorch and captum."""

from resight.attribution.gradients import METHODS, Method
from resight.attribution.inside import activations
from resight.attribution.network import Explained, load_network
from resight.attribution.randomisation import randomised, sanity, spearman

__all__ = ["METHODS", "Explained", "Method", "activations", "load_network", "randomised", "sanity", "spearman"]
