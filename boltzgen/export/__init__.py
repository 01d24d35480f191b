"""Trajectories and weights for other tools."""
