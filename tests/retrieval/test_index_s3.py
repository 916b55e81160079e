"""The index in object storage, tried against a server of this machine; it runs where `moto[server,s3]` is installed."""

import os
import urllib.request

import pytest
from index_in_a_process import Fast

from fdp_core.retrieval import index

NEEDED = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}


@pytest.fixture
def bucket(monkeypatch):
    """Return the address of an empty bucket."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    for name, value in {**NEEDED, "AWS_ENDPOINT": address}.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{address}/photos", method="PUT")).close()
    yield "s3://photos/library"
    server.stop()


def test_an_index_in_a_bucket_is_the_one_in_a_folder(bucket, tmp_path):
    shown = tmp_path / "shown"
    shown.mkdir()
    for n in range(12):
        (shown / f"{n}.jpg").write_text(f"photograph {n}")
        os.utime(shown / f"{n}.jpg", (1.7e9, 1.7e9))

    def both(changed):
        found = []
        for uri in (bucket, tmp_path / "index"):
            opened = index.Index.open(uri, Fast())
            counts = opened.update(shown, progress=False)
            hits = index.Index.open(uri, Fast()).search("hotel", 5)
            found.append((counts, len(opened), [(hit.id, hit.score) for hit in hits]))
        assert found[0] == found[1] and found[0][1] == changed
        return found[0][2]

    before = both(12)
    (shown / "7.jpg").rename(shown / "moved.jpg")
    (shown / f"{before[0][0]}").unlink()
    (shown / "new.jpg").write_text("new")
    assert before[0][0] not in [name for name, _ in both(12)]
