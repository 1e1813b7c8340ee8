from http.client import parse_headers
from io import BytesIO

from benchmarks.serving.traffic import behind_nginx
from benchmarks.serving.workloads import Upload


def parsed(message: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Request line, header fields, body."""
    stream = BytesIO(message)
    return stream.readline(), dict(parse_headers(stream).items()), stream.read()


def test_every_upload_is_sent_once_with_ids_of_its_own():
    uploads = [Upload(b"%d" % number * number, "image/png") for number in range(50)]
    messages = list(map(parsed, behind_nginx(uploads, "/predict?top_k=3")))
    assert {line for line, _, _ in messages} == {b"POST /predict?top_k=3 HTTP/1.1\r\n"}
    bodies = [body for _, _, body in messages]
    assert sorted(bodies) == sorted(upload.body for upload in uploads)
    assert bodies != [upload.body for upload in uploads]
    for name in ("X-Request-ID", "traceparent"):
        assert len({fields[name] for _, fields, _ in messages}) == len(uploads)
    assert all(int(fields["Content-Length"]) == len(body) for _, fields, body in messages)
