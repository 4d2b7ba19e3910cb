"""What open-source Kubeflow Pipelines needs beyond TFX's own compiler."""
