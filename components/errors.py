"""The one exception whose message is written for the person who runs the pipeline."""


class StageError(Exception):
    """A stage cannot go on; the message says what, where, and what would be right."""
