"""Synthetic defects: painted into clean pictures, in pairs that stay aligned."""
