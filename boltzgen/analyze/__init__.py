"""Free energies, expectations, and distances to the MD reference."""
