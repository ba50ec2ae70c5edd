"""Evaluation: the metric contract and FAR at recall."""
