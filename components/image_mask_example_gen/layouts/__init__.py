"""One module a layout: where the files lie and which belong together."""
