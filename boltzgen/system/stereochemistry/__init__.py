"""Isomers: what the domain of Z holds."""
