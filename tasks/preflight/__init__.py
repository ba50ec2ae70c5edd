"""Preflight: all that is looked at, and nothing touched, before a person approves a pipeline."""
