"""One run on this machine: its stages, its work directory, its summary, and how it is shown."""
