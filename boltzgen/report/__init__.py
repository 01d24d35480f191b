"""What a run shows: figures and the closing table in the terminal."""
