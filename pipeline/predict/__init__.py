"""Images to masks by way of a served model: what to ask for, asking, and where the answers go."""
