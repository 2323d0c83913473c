"""RADAR: risk-aware distilled adaptive routing, as a library thin enough to read beside the paper."""

__version__ = "0.1.0"
