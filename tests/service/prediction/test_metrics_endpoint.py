"""What a scrape is told: what is counted, and what is so at the moment."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from models.artifact.artifact import Artifact
from tests.service.prediction.played import PlayedProcess, Sent, head, picture, play


def test_metrics_tell_the_models_that_are_ready_and_how_much_waits(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        Sent(process, head(len(picture(1))), picture(1)).send()
        text = (await process.api.metrics_endpoint.text()).decode()
        assert "resnet_queue_depth 1.0" in text
        assert "resnet_queue_capacity 1024.0" in text
        assert "resnet_model_info{" not in text
        process.up()
        text = (await process.api.metrics_endpoint.text()).decode()
        assert f'sha256="{artifact.sha256}"' in text

    play(scene, artifact)


def test_either_form_tells_the_whole_server(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        endpoint = process.api.metrics_endpoint
        text = (await endpoint.text(openmetrics=True)).decode()
        of_openmetrics = {family.name for family in text_string_to_metric_families(text)}
        assert {"resnet_requests", "resnet_ready", "process_cpu_seconds"} <= of_openmetrics
        plain = (await endpoint.text()).decode()
        assert [name for name in of_openmetrics if f"\n# TYPE {name}" not in plain] == []

    play(scene, artifact)
