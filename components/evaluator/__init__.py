"""Confusion-matrix metrics at each mask's own size, and the gate that they pass or do not."""
