"""What the stages share: the Example's features and the label set."""
