"""Changes of the models that clients of an API process ask the supervisor for."""

import asyncio
import itertools

from service.errors import ChangeRefused, DeadlineExceeded
from service.ipc.control import AskForChange, ChangeEnded, ControlWriter, ModelAction, ModelChange
from service.prediction.model_status import without_directories


class ChangeRequests:
    """Asks, and waits for the answer, for so many seconds at most."""

    def __init__(self, report: ControlWriter, timeout_s: float) -> None:
        self._report, self._timeout_s = report, timeout_s
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[bool]] = {}

    async def ask(self, action: ModelAction, model: str = "", version: int | None = None) -> bool:
        """Have the supervisor change models: whether any is another now; ChangeRefused or DeadlineExceeded."""
        number, ended = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = ended
        self._report.send(AskForChange(number, ModelChange(action, model, version)))
        try:
            return bool(await asyncio.wait_for(ended, self._timeout_s))
        except TimeoutError:
            raise DeadlineExceeded("the change takes longer; GET /models tells what is served") from None
        finally:
            del self._waiting[number]

    def on_ended(self, message: ChangeEnded) -> None:
        """The supervisor has made the change, or not."""
        ended = self._waiting.get(message.number)
        if ended is None or ended.done():
            return
        if message.refused:
            ended.set_exception(ChangeRefused(without_directories(message.refused)))
        else:
            ended.set_result(message.changed)
