"""The confusion matrix and the one table of metrics."""
