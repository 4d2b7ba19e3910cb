"""Requests of several images: a refused one is asked in halves, and how many the server takes is learnt."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from components.serving.failures import ModelUnavailableError, ServingClientError

Answer = TypeVar("Answer")
_logger = logging.getLogger(__name__)


class SplittingRequests(Generic[Answer]):
    """Asks for many images, a request at a time; threads may share it.

    Attributes:
        size: how many images a request may have. Falls when a request was refused although each of its
            images is answered in a smaller one.
    """

    def __init__(self, ask: Callable[[Sequence[bytes]], list[Answer]], size: int):
        """Prepares requests.

        Args:
            ask: sends one request, returns one answer an image, and raises `ServingClientError`.
            size: how many images a request may have to begin with.
        """
        self.size = size
        self._ask = ask
        self._said = False
        self._lock = threading.Lock()

    def answers(self, images: Sequence[bytes]) -> list[Answer | ServingClientError]:
        """Returns an answer for each image, or why there is none.

        Raises:
            ModelUnavailableError: nothing will be answered any more.
        """
        if len(images) > self.size:
            return self._in_halves(images)
        try:
            return [*self._ask(images)]
        except ModelUnavailableError:
            raise
        except ServingClientError as error:
            if len(images) == 1:
                return [error]
            answers = self._in_halves(images)
            refused = any(isinstance(answer, ServingClientError) for answer in answers)
            if not refused and not error.transient:
                self._learn(len(images), error)
            return answers

    def _in_halves(self, images: Sequence[bytes]) -> list[Answer | ServingClientError]:
        middle = (len(images) + 1) // 2
        return [*self.answers(images[:middle]), *self.answers(images[middle:])]

    def _learn(self, refused: int, error: ServingClientError) -> None:
        with self._lock:
            self.size = min(self.size, (refused + 1) // 2)
            first, self._said = not self._said, True
            size = self.size
        if first:
            _logger.warning(
                "a request of %d images was refused, its images were not (%s); "
                "from now on at most %d go together",
                refused,
                error,
                size,
            )
