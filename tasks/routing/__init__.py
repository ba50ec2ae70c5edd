"""Routing: which weak samples go to mining and which to generation."""
