"""From weights trained elsewhere to a classifier of one's own: features, a linear probe, and fine-tuning from it."""
