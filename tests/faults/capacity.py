"""After a fault: every place for an image can be used again."""

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.service.pictures import b64, png
from tests.service.served import DEADLINE_S, Served, until

PLACES = 256  # of a server that its test gives no other number
IMAGES = 64  # in a request
INFLIGHT = "resnet_inflight_requests"
ANSWERED = 'resnet_requests_total{model="faulty",outcome="ok",version="1"}'


def check_capacity(served: Served) -> None:
    """Fill every place of a server that still runs: one image more is refused, and the others are answered."""
    command = [str(word) for word in served.process.args]  # type: ignore[union-attr]
    places = int(command[command.index("--queue-capacity") + 1]) if "--queue-capacity" in command else PLACES
    if served.process.poll() is not None or len(served.api_processes()) != 1 or served.status("/readyz") != 200:
        return
    until(lambda: served.metrics()[INFLIGHT] == 0, "what is under way")
    until(lambda: fill(served, places), "places of cancelled requests, or kept for models that were just in demand")


def fill(served: Served, places: int) -> bool:
    """Whether all places can be had by the default model: what is asked beyond them is refused."""
    sizes = [IMAGES] * (places // IMAGES) + [places % IMAGES] * bool(places % IMAGES)
    with ThreadPoolExecutor(len(sizes) + 1) as pool:
        with served.paused():
            asked = [pool.submit(classify, served, size) for size in sizes]
            until(
                lambda: served.metrics()[INFLIGHT] == len(sizes) or any(one.done() for one in asked),
                f"{places} images to have their places",
            )
            one_more = pool.submit(classify, served, 1)
            until(lambda: any(one.done() for one in [*asked, one_more]), "the refusal of what is too much")
        answers, refusal = [one.result() for one in asked], one_more.result()
    if any(answer.status_code == 503 and answer.json()["reason"] == "full" for answer in answers):
        return False
    assert [(one.status_code, len(one.json().get("results", ()))) for one in answers] == [(200, size) for size in sizes]
    assert (refusal.status_code, refusal.json()["reason"]) == (503, "full")
    return True


def classify(served: Served, images: int) -> httpx.Response:
    """Several of the same image in one request, for the default model."""
    body = {"images": [b64(png())] * images}
    headers = {"X-Request-Timeout-Ms": "60000"}
    return httpx.post(served.url + "/predict", json=body, headers=headers, timeout=DEADLINE_S)
