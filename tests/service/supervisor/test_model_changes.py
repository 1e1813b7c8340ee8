"""Changes of the models in their order; what they do to a real server is in `test_admin_api` and `test_swaps`."""

from typing import Any

from service.config.settings import Settings
from service.ipc.control import ModelChange
from service.policy import CHANGES_WAITING
from service.supervisor.model_changes import ModelChanges

NOTHING: Any = None  # what a change that waits does not need


def test_signals_and_a_look_at_the_folder_leave_room_for_what_clients_ask() -> None:
    changes = ModelChanges(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, Settings(_cli_parse_args=False), NOTHING)
    refused: list[str] = []
    changes.ask(ModelChange("reread"), lambda reason, _: refused.append(reason), again=False)
    for _ in range(2 * CHANGES_WAITING):
        changes.ask(ModelChange("reread"))
    for _ in range(CHANGES_WAITING):  # each client has an answer of its own
        changes.ask(ModelChange("load", "plain"), lambda reason, _: refused.append(reason))
    assert refused == [f"{CHANGES_WAITING} changes wait already; try again later"]
