"""What a run shows of itself while it goes on and at its end, for people and for programs."""
