"""Molecular systems from structure and force-field files."""
