"""Annealed importance sampling and sequential Monte Carlo over a sequence of energies."""
