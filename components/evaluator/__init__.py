"""The Evaluator stage: confusion-matrix metrics at each mask's own size, and the gate."""
