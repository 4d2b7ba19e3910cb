"""Does the candidate really serve? Asked of a real server before the model is pushed."""
