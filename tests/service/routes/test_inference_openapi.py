"""The documentation of the Open Inference Protocol."""

import re

from service.routes.inference_openapi import INDEX_BODY, REPOSITORY_BODY


def test_a_body_refers_to_nothing_that_the_document_does_not_have() -> None:
    for body in (INDEX_BODY, REPOSITORY_BODY):
        assert not re.search(r"#/(?!components/)", str(body))
    fields = REPOSITORY_BODY["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert fields["parameters"]["properties"]["unload_dependents"]["type"] == "boolean"
