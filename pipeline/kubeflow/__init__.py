"""The pipeline on Kubeflow Pipelines: its package, the command of its containers, and its runs."""
