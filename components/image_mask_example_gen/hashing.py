"""An order of keys that looks random, is the same everywhere, and hardly moves when a key is added."""

from hashlib import blake2b


def stable_rank(key: str, purpose: str, seed: int = 0) -> bytes:
    """Returns eight bytes to sort by.

    Args:
      key: What is to be ordered.
      purpose: Orders with different purposes are independent of each other.
      seed: Another seed gives another order.
    """
    text = f"{purpose}/{seed}/{key}".encode("utf-8", "surrogateescape")
    return blake2b(text, digest_size=8).digest()
