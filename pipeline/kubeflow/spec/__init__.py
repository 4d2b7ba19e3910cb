"""From a recipe to a package that the open-source backend runs: what it needs beyond TFX's compiler."""
