"""Measurements of what the pipeline costs; each module says on top how to run it."""
