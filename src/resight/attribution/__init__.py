"""Explanations that need gradients or many passes: PyTorch and captum."""
