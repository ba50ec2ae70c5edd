"""The colours of charts and pages; those of data are of Okabe and Ito's set, which people who do not tell red
from green can tell apart."""

PALETTE = {
    "ink": "#1b1f24",
    "muted": "#667080",
    "grid": "#e2e6ea",
    "good": "#0072b2",
    "bad": "#d55e00",
    "line": "#009e73",
    "warm": "#e69f00",
    "cool": "#56b4e9",
    "pink": "#cc79a7",
}
"""By name, on light ground."""

DARK = {
    "ink": "#e6e9ed",
    "muted": "#98a2b0",
    "grid": "#2f363f",
    "good": "#4aa8e0",
    "bad": "#ff8a3d",
    "line": "#2cc79a",
    "warm": "#f0b429",
    "cool": "#8fd0f5",
    "pink": "#e39cc6",
}
"""The same on dark ground."""
