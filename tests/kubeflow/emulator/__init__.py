"""Runs a compiled package task by task the way Kubeflow Pipelines' driver, launcher and Argo do.

Comments name the file of the backend that a behaviour follows, below ``backend/src/v2`` of
``github.com/kubeflow/pipelines``.
"""
