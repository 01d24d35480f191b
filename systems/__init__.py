"""Molecular systems that come with boltzgen, one module each, written against its public API only."""
