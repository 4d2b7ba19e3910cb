"""Errors of the commands that talk to Kubeflow; their messages are for the person who typed them."""


class ConnectionProblem(Exception):
    """Kubeflow cannot be asked, or does not do what it is asked; the message says what would help."""

    def __init__(self, message: str, *, may_pass: bool = False, perhaps_done: bool = False):
        super().__init__(message)
        self.may_pass = may_pass
        """Whether the same request may well succeed a little later."""
        self.perhaps_done = perhaps_done
        """Whether the backend may have done what it was asked and only its answer was lost."""


class Unauthenticated(ConnectionProblem):
    """The backend does not know who asks."""


class Forbidden(ConnectionProblem):
    """The backend refuses this to whoever asks."""


class NotFound(ConnectionProblem):
    """The backend does not have what was asked for."""


class WaitedTooLong(Exception):
    """The run goes on, but the time to wait for it is over."""
