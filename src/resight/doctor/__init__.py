"""Checks on data sets, before an hour is spent on them. Needs no PyTorch."""
