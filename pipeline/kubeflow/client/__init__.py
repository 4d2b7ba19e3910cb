"""Submits a package to Kubeflow Pipelines, and follows its runs."""
