"""From a trained network to the files that answer without it, each checked against it."""
