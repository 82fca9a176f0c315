"""Which ResNet for these data, on this machine, in this much time: measured, and ordered where it cannot be."""

from resight.advising.candidates import Candidate
from resight.advising.choose import Advice, Limits
from resight.advising.facts import DataFacts

__all__ = ["Advice", "Candidate", "DataFacts", "Limits"]
