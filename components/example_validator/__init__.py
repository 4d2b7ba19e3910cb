"""Stops the pipeline where the Examples are not what the schema says."""
