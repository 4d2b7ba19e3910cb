"""What an evaluation says: the confusion matrix, what follows from it, and the gate's verdict read back."""
