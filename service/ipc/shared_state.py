"""What every process may know of the others at any time, without asking."""

from service.ipc.shared_memory import SharedMemory


class SharedState:
    """One row for each seat of a worker, and behind them one for the express thread of each, in shared memory.

    Written by the supervisor: `epochs`, which life each worker is in. Written by a worker: in which epoch it has an
    express thread; `loading`, the number of the model that it loads plus one, 0 while it loads none; of each thread
    when its batch began (ns of the monotonic clock, 0 when idle), how long that may take, and for each API process the
    last batch that it took up and the last that it is done with.
    Written by each API process: its element of each row's `loads_ns`, how long what it has sent there will take, and
    of `held_ns`, the worker time that all images it has admitted will take; of `first_batches`, the number of its own
    first one; of `connections`, how many it has open; and of `beats`, which it counts up several times a second as long
    as its event loop turns.
    The last element of each row's `loads_ns` is for what the supervisor has sent there; the worker clears it.
    """

    def __init__(self, seats: int, api_processes: int) -> None:
        self.seats, self.api_processes = seats, api_processes
        count, n = 2 * seats, api_processes
        memory = SharedMemory((count * (4 + 2 * n + n + 1) + 4 * n) * 8)
        rows = memory.array("i8", (count, 4 + 2 * n))
        self.epochs, self.began_ns, self.limit_ns, self.loading = rows.T[:4]
        self.taken, self.done = rows[:, 4 : 4 + n], rows[:, 4 + n :]
        words = memoryview(memory.map).cast("q")[rows.size :]  # read and written faster than an array's elements
        self.held_ns, self.beats, self.first_batches = words[:n], words[n : 2 * n], words[2 * n : 3 * n]
        self.connections, loads = words[3 * n : 4 * n], words[4 * n :]
        self.loads_ns = [loads[i * (n + 1) : (i + 1) * (n + 1)] for i in range(count)]

    def rows_of(self, seat: int) -> tuple[int, int]:
        """The row of a seat, and the one of its worker's express thread."""
        return seat, self.seats + seat

    def end_life(self, api: int) -> None:
        """An API process is dead: what it held, and had sent, does not count against what others hold and send."""
        for numbers in (self.held_ns, self.connections, *self.loads_ns):
            numbers[api] = 0

    def begin_life(self, seat: int, epoch: int) -> None:
        """A worker is to live in this seat, whose last one is dead: nothing of that one runs any more."""
        rows = list(self.rows_of(seat))
        self.epochs[rows], self.began_ns[rows], self.loading[rows] = (epoch, 0), 0, 0
        self.done[rows] = self.taken[rows]
        for row in rows:
            self.loads_ns[row][-1] = 0
