"""Workflow files and their settings."""
