"""Molecular dynamics of the target, and the user's own trajectories."""
