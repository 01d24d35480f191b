"""The run directory: its record, its lock, its contents read back."""
