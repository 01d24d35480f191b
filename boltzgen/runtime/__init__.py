"""What every stage runs on: files, progress, cores, processes, checkpoints."""
