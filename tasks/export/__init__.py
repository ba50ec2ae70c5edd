"""Weak and mined samples of a run, written for labelling tools."""
