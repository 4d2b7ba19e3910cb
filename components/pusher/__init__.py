"""The push of an approved model to where a model server finds it."""
