"""Searching for settings: the space, the study that survives every end, and the learning-rate finder.

Every trial is a real training in a Run directory; how one is made and trained is handed in by ``commands.tune``.
"""
