"""What ends the command with one clear line."""


class InitError(Exception):
    """No recipe can come of what was given; the message says what, where, and what would be right."""
