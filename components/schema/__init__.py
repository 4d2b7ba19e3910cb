"""What a well-formed Example holds."""
