"""Why an answer: class activation maps from the graph's own outputs, and overlays. Needs no PyTorch."""

from resight.explaining.cam import class_activation, head_weights
from resight.explaining.overlay import overlay

__all__ = ["class_activation", "head_weights", "overlay"]
