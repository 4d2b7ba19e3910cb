"""The Trainer stage: input pipeline, network, training with checkpoints, export of the SavedModel."""
