"""The ServingCheck stage: tries the candidate behind a real model server before it is pushed."""
