"""The served versions of a model on disk: what Baseline reads and Pusher writes."""
