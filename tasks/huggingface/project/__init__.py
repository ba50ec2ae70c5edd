"""The generated project: a product of its own, which runs without this repository."""
