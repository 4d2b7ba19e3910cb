"""The embedded model server: what ``tensorflow_model_server`` does, for development and tests."""
