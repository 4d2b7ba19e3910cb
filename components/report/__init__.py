"""The Report stage: one page a run with its verdict, metrics, examples and origin."""
