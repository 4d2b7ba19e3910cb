"""Data, model, fit, export."""
