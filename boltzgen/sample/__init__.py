"""From a trained network and a target to a weighted ensemble and a verdict on it."""
