"""Weighted ensembles: storage, errors, correlation, regions."""
