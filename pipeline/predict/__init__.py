"""What the predict command does: finding images, asking for their masks, writing them."""
