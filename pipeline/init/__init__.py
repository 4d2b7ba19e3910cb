"""A first recipe from images and masks: what lies in the folders, what it means, and what to try with it."""


class InitError(Exception):
    """No recipe can come of what was given; the message says what, where, and what would be right."""
