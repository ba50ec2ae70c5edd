"""Containers of actions: what they may do, how they are planned, started and judged."""
