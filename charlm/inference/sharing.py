"""Sharing streams among threads: kernels release the global interpreter lock, so they run in parallel."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

MIN_STREAMS_PER_THREAD = 8
"""With fewer, waking a thread costs more time than it saves."""

MAX_STREAMS_PER_CALL = 32
"""The numbers of more streams do not fit into a core's cache."""


class Sharing:
    """Calls work(begin, end) for parts of the streams, on at most `threads` threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._others = ThreadPoolExecutor(max(1, threads - 1))  # starts a thread when it is needed

    def run(self, streams: int, work: Callable[[int, int], None]) -> None:
        """Process all streams. The parts depend only on the numbers of streams and threads."""
        parts = max(min(self.threads, streams // MIN_STREAMS_PER_THREAD), -(-streams // MAX_STREAMS_PER_CALL))
        if parts <= 1:
            work(0, streams)
            return
        cuts = [streams * part // parts for part in range(parts + 1)]

        def run_parts(thread: int) -> None:
            for part in range(thread, parts, self.threads):
                work(cuts[part], cuts[part + 1])

        others = [self._others.submit(run_parts, thread) for thread in range(1, min(self.threads, parts))]
        run_parts(0)
        for other in others:
            other.result()
