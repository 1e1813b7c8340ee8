"""Requests come, leave and end in any order, and workers die: each has one response, and nothing is held."""

import asyncio
from typing import Any

import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from models.artifact.artifact import Artifact
from service.errors import DeadlineExceeded
from service.ipc.messages import BatchMessage
from service.ipc.slots import EXPIRED, FAILED, OK
from service.parsing.head import Target
from service.prediction.request import RequestState
from tests.service.event_loop import turn
from tests.service.prediction.played import (
    PREDICT,
    PlayedProcess,
    Sent,
    head,
    picture,
    several,
)


class Requests(RuleBasedStateMachine):
    """Requests that come, leave and end, with a worker that answers, dies and comes again, in any order."""

    artifact: Artifact

    def __init__(self) -> None:
        super().__init__()
        self.loop = uvloop.new_event_loop()
        self.sent: list[Sent] = []
        self.completed: set[int] = set()
        self.left: set[int] = set()
        self.held: list[BatchMessage] = []

    @initialize()
    def start(self) -> None:
        async def make() -> PlayedProcess:
            return PlayedProcess(self.artifact)

        self.process = self.loop.run_until_complete(make())
        self.call(self.process.up)

    def call(self, act: Any, *arguments: object) -> None:
        """Within the loop, as all that happens to a request."""

        async def run() -> None:
            act(*arguments)

        self.loop.run_until_complete(run())

    def is_open(self, which: int) -> bool:
        """Whether its client is there and has more to send."""
        return which < len(self.sent) and which not in self.completed | self.left

    @rule(
        images=st.lists(st.sampled_from([picture(1), picture(2, tiny=False), b"text"]), min_size=1, max_size=5),
        declared=st.booleans(),
        to=st.sampled_from([PREDICT, Target("/predictions/{model}", "zebra")]),
    )
    def begin(self, images: list[bytes], *, declared: bool, to: Target) -> None:
        body, content_type = several(*images)
        sent = Sent(self.process, head(len(body) if declared else None, target=to, **content_type), body)
        self.sent.append(sent)
        self.call(sent.begin)

    @rule(which=st.integers(0, 9), size=st.integers(1, 400))
    def feed(self, which: int, size: int) -> None:
        if self.is_open(which):
            self.call(self.sent[which].feed, size)

    @rule(which=st.integers(0, 9))
    def complete(self, which: int) -> None:
        if self.is_open(which):
            self.completed.add(which)
            self.call(self.sent[which].feed)
            self.call(self.sent[which].request.complete)

    @rule(which=st.integers(0, 9))
    def abandon(self, which: int) -> None:
        if which < len(self.sent):
            if not self.sent[which].responses:
                self.left.add(which)
            self.call(self.sent[which].request.abandon)

    @rule(which=st.integers(0, 9))
    def expire_body(self, which: int) -> None:
        if self.is_open(which):
            self.call(self.sent[which].request.expire_body)

    @rule(which=st.integers(0, 9))
    def expire(self, which: int) -> None:
        if which in self.completed:
            self.call(self.sent[which].request.refuse, DeadlineExceeded("its time is over"))

    @rule()
    def work(self) -> None:
        if message := self.process.take():
            self.held.append(message)

    @rule(which=st.integers(0, 9), status=st.sampled_from([OK, OK, FAILED, EXPIRED]))
    def reply(self, which: int, status: int) -> None:
        if self.held:
            self.process.reply(self.held.pop(which % len(self.held)), status)

    @rule()
    def die(self) -> None:
        self.held.clear()
        self.call(self.process.die)

    @rule()
    def rise(self) -> None:
        self.die()
        self.call(self.process.up)

    @rule()
    def go_on(self) -> None:
        self.loop.run_until_complete(turn())

    @invariant()
    def each_has_one_response_or_none_yet(self) -> None:
        assert all(len(sent.responses) == (1 if self.ended(i) else 0) for i, sent in enumerate(self.sent))

    @invariant()
    def the_gauge_counts_those_that_have_not_ended(self) -> None:
        if self.sent:
            under_way = [i for i in range(len(self.sent)) if i not in self.left and not self.ended(i)]
            assert self.process.count("inflight_requests") == len(under_way)

    def ended(self, which: int) -> bool:
        """Whether it has ended with a response."""
        return which not in self.left and self.sent[which].request.state is RequestState.ENDED

    def teardown(self) -> None:
        """All that is sent is answered, and then nothing is held."""
        if not hasattr(self, "process"):
            return
        for which in range(len(self.sent)):
            self.complete(which)
        self.rise()
        self.loop.run_until_complete(asyncio.wait_for(self._answer_all(), 30))
        self.each_has_one_response_or_none_yet()
        self.the_gauge_counts_those_that_have_not_ended()
        counted = self.process.counted("requests_total")
        assert sum(counted.values()) == len(self.sent)
        assert sum(count for labels, count in counted.items() if "cancelled" in labels) == len(self.left)
        self.call(self.process.close)
        self.loop.close()

    async def _answer_all(self) -> None:
        while not (all(sent.request.state is RequestState.ENDED for sent in self.sent) and self.process.is_whole()):
            await turn()
            if message := self.process.take():
                self.process.reply(message)


def test_any_order_of_events_ends_each_request_once_and_leaves_nothing_held(artifact: Artifact) -> None:
    class OfThisModel(Requests):
        pass

    OfThisModel.artifact = artifact
    case = OfThisModel.TestCase
    case.settings = settings(max_examples=40, stateful_step_count=40)
    case("runTest").runTest()
