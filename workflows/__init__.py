"""Workflow files that come with boltzgen; `boltzgen workflows` lists them."""
