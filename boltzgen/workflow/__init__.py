"""The stages of a run, and what makes them run."""
