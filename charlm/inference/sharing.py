"""Streams shared among threads; kernels hold no lock of Python, so that they run side by side."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

MIN_STREAMS_PER_THREAD = 8
"""Fewer do not pay for waking a thread."""

MAX_STREAMS_PER_CALL = 32
"""Of more, the numbers do not fit into a core's cache."""


class Sharing:
    """Calls work(begin, end) for parts of the streams, on at most so many threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._others = ThreadPoolExecutor(max(1, threads - 1))  # starts a thread when it is needed

    def run(self, streams: int, work: Callable[[int, int], None]) -> None:
        """All streams; the parts depend on their number and that of the threads alone."""
        parts = max(min(self.threads, streams // MIN_STREAMS_PER_THREAD), -(-streams // MAX_STREAMS_PER_CALL))
        if parts <= 1:
            work(0, streams)
            return
        cuts = [streams * part // parts for part in range(parts + 1)]

        def every_nth(thread: int) -> None:
            for part in range(thread, parts, self.threads):
                work(cuts[part], cuts[part + 1])

        others = [self._others.submit(every_nth, thread) for thread in range(1, min(self.threads, parts))]
        every_nth(0)
        for other in others:
            other.result()
