"""A client for model servers, and the small server for development and tests.

What the client asks for where it is not told stands here, where reading it needs no gRPC.
"""

from typing import Final

TIMEOUT: Final = 60.0
"""Seconds that a request may take, to which patience is added."""
PATIENCE: Final = 60.0
"""Seconds more, in which a server that is away or overloaded is waited for and asked again."""
CONCURRENCY: Final = 4
"""Requests under way at once."""
MAX_MESSAGE_BYTES: Final = 256 * 1024**2
"""gRPC's own limit for answers is 4 MiB: less than the pixels of one photograph."""
