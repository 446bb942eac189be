"""How many threads to compute with, found by timing the work itself; and how much of the machine others take."""

import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TypeVar

SPIN_COUNT = 1000
"""How often an OpenMP thread looks whether the others are done before it sleeps: some 50 microseconds. The 300,000 of
GNU's library are milliseconds, in which a thread that waits keeps the processor from the one that it waits for."""

FIXED = "OMP_NUM_THREADS"
"""The environment variable by which OpenMP programs, torch among them, are told how many threads to use."""

TRIAL_SECONDS = 0.2  # how long each number of threads is tried, or for one piece of work that takes longer
GAIN = 1.08  # another number of threads must be this much faster to be taken
HOPELESS = 2.0  # times slower: the trial ends at once
FALLEN = 1.3  # times slower than it was measured: time to measure again
SMOOTHING = 0.8  # of the pace, from one piece of work to the next
QUIET_SECONDS = 2.0  # of work before the first trial, on a machine where others use less than
BUSY_CORES = 0.25  # measured over
METER_SECONDS = 0.1  # at least, and so long from one measurement to the next
FIRST_WAIT, LONGEST_WAIT = 2.0, 30.0  # seconds from one trial of more threads to the next

DISTURBED = 0.8  # of the usual pace: with less, others cost more than a fifth of it

Item = TypeVar("Item")
Result = TypeVar("Result")

Timing = tuple[float, float]
"""Seconds that a piece of work took, and its size in any unit."""


def wait_briefly() -> None:
    """Let OpenMP's threads spin only briefly, unless the user has said how they wait. Call before torch is imported.

    Has an effect with GNU's library, which torch brings on Linux.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


def fix_threads(threads: int) -> None:
    """Let torch compute with so many threads from now on; no `ThreadTuner` changes that."""
    import torch

    os.environ[FIXED] = str(threads)
    torch.set_num_threads(threads)


class Workers:
    """Threads that share work which holds no lock of Python: NumPy's and torch's. See `workers`."""

    def __init__(self, pool: ThreadPoolExecutor | None = None, threads: int = 1) -> None:
        self.threads = threads
        self._pool = pool  # starts a thread when it is needed

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """What `work` returns for each item, in their order: begun at once by the threads, else one when asked for."""
        return self._pool.map(work, items) if self._pool else map(work, items)


ALONE = Workers()


@contextmanager
def workers() -> Iterator[Workers]:
    """As many threads as torch computes with, if several. Meanwhile torch computes with one thread in each of them, and
    in the caller's. Work not yet begun is dropped in the end.
    """
    import torch

    threads = torch.get_num_threads()
    if threads == 1:
        yield ALONE
        return
    torch.set_num_threads(1)  # also of the threads that start from now on
    pool = ThreadPoolExecutor(threads)
    try:
        yield Workers(pool, threads)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


class ThreadTuner:
    """Finds the number of threads by which torch does most work a second, while the work goes on.

    On a quiet machine that is all cores; where other programs run, threads that wait for each other at every operation
    can be ten times slower than one. Candidates are all threads, half of them, and so on down to one. They are timed at
    the beginning, or after a while where the machine is quiet, so that short work loses nothing; and again when the
    pace falls. Fewer than all are also compared with more of them from time to time, less and less often.

    Give `record` the seconds of every piece of work. As a context manager it gives torch back the threads it had. Where
    OMP_NUM_THREADS is set, the user has chosen, and nothing is changed.
    """

    def __init__(self) -> None:
        import torch

        self._set = torch.set_num_threads
        self.threads = most = torch.get_num_threads()
        self._counts = [most]  # from all to one
        while self._counts[-1] > 1 and FIXED not in os.environ:
            self._counts.append(self._counts[-1] // 2)
        self._search = self._tune()
        next(self._search)

    def __enter__(self) -> "ThreadTuner":
        return self

    def __exit__(self, *_: object) -> None:
        self._set(self._counts[0])

    def record(self, seconds: float, work: float = 1.0) -> None:
        """What the last piece of work took, and its size in any unit. May change torch's number of threads."""
        self._search.send((seconds, work))

    def _tune(self) -> Generator[None, Timing, None]:
        yield  # the first piece of work also pays for what is made once
        place, wait, elapsed, meter, measured = 0, FIRST_WAIT, 0.0, MachineMeter(), 0.0
        while len(self._counts) > 1 and elapsed < QUIET_SECONDS:
            seconds, _ = yield
            elapsed += seconds
            if meter.seconds >= measured + METER_SECONDS:
                measured = meter.seconds
                if meter.use().others >= BUSY_CORES:
                    break
        while len(self._counts) > 1:
            before = place
            place, pace = yield from self._fastest(place)
            wait = FIRST_WAIT if place != before else min(LONGEST_WAIT, 2 * wait)
            elapsed, recent = 0.0, pace
            while recent < FALLEN * pace and not (place and elapsed > wait):
                seconds, work = yield
                elapsed += seconds
                recent = SMOOTHING * recent + (1 - SMOOTHING) * seconds / work
                pace = min(pace, recent)
        while True:
            yield

    def _fastest(self, place: int) -> Generator[None, Timing, tuple[int, float]]:
        """The candidate at `place` or what is reached from it by steps that gain, fewer threads first; and its pace."""
        pace = yield from self._timed(place)
        for direction in (1, -1):
            start = place
            while 0 <= place + direction < len(self._counts):
                other = yield from self._timed(place + direction, HOPELESS * pace)
                if other * GAIN > pace:
                    break
                place, pace = place + direction, other
            if place != start:
                break
        self._use(place)
        return place, pace

    def _timed(self, place: int, hopeless: float = math.inf) -> Generator[None, Timing, float]:
        """Seconds per unit of work with this candidate, in a trial that ends at once where they are `hopeless`."""
        self._use(place)
        total = done = 0.0
        while total < TRIAL_SECONDS:
            seconds, work = yield
            total, done = total + seconds, done + work
            if total / done > hopeless:
                break
        return total / done

    def _use(self, place: int) -> None:
        self.threads = self._counts[place]
        self._set(self.threads)


@dataclass(frozen=True)
class MachineUse:
    """Processor time used over a stretch of time, in cores: by this process, by all others; and how many there are."""

    own: float
    others: float
    cores: int

    @property
    def share(self) -> float:
        """About how much of a quiet machine's pace is left: 1 where the others only use what would be idle."""
        idle = max(0.0, self.cores - self.own - self.others)
        return self.own / max(1e-9, self.own + max(0.0, self.others - idle))

    @property
    def disturbed(self) -> bool:
        """Whether others cost more than a fifth of the pace."""
        return self.share < DISTURBED

    def to_json(self) -> dict[str, float]:
        """What a run's card keeps of it."""
        return {name: round(value, 3) for name, value in (*asdict(self).items(), ("share", self.share))}

    def __str__(self) -> str:
        return f"other programs take {self.others:.1f} of {self.cores} cores: about {self.share:.0%} of the usual pace"


class MachineMeter:
    """Measures `MachineUse` from when it is made."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds: of the clock, of this process, of all processors busy (others' virtual machines included)."""
        import psutil

        times = psutil.cpu_times()._asdict()
        busy = sum(times.get(kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))
        return time.monotonic(), time.process_time(), busy

    @property
    def seconds(self) -> float:
        """How long it has been measuring."""
        return time.monotonic() - self._before[0]

    def use(self) -> MachineUse:
        """Of the time since then."""
        import psutil

        seconds, own, busy = (now - before for now, before in zip(self._now(), self._before, strict=True))
        seconds = max(seconds, 1e-9)
        return MachineUse(own / seconds, max(0.0, busy - own) / seconds, psutil.cpu_count() or 1)
