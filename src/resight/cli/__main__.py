"""``python -m resight.cli``."""

from resight.cli import main

main()
