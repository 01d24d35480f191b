"""The noising process, losses on it, and the noise levels of samples."""
