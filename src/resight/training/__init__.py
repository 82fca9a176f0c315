"""The training half: one loop over an Objective, exact resume, batches and augmentation as pure functions."""
