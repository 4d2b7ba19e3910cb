"""A first recipe from two folders: what lies in them, what it means, and what to try with it."""
