"""What every process may know of the others at any time, without asking."""

from service.ipc.shared_memory import SharedMemory


class SharedState:
    """One row for each seat of a worker, and behind them one for the express thread of each, in shared memory.

    Written by the supervisor: `epochs`, which life each worker is in. Written by a worker: in which epoch it has an
    express thread; of each thread when its batch began (ns of the monotonic clock, 0 when idle), how long that may
    take, and for each API process the last batch it took up.
    Written by each API process: its element of each row's `loads_ns`, how long what it has sent there will take, and
    of `held_ns`, the worker time that all images it has admitted will take; and its element of `beats`, which it counts
    up several times a second as long as its event loop turns.
    """

    def __init__(self, seats: int, api_processes: int) -> None:
        self.seats, self.api_processes = seats, api_processes
        count = 2 * seats
        memory = SharedMemory((count * (3 + 2 * api_processes) + 2 * api_processes) * 8)
        rows = memory.array("i8", (count, 3 + api_processes))
        self.epochs, self.began_ns, self.limit_ns = rows[:, 0], rows[:, 1], rows[:, 2]
        self.taken = rows[:, 3:]
        times = memoryview(memory.map).cast("q")[rows.size :]  # read and written faster than an array's elements
        n = api_processes
        self.held_ns, self.beats, loads = times[:n], times[n : 2 * n], times[2 * n :]
        self.loads_ns = [loads[i * n : (i + 1) * n] for i in range(count)]

    def rows_of(self, seat: int) -> tuple[int, int]:
        """The row of a seat, and the one of its worker's express thread."""
        return seat, self.seats + seat
