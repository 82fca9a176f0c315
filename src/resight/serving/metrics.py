"""What Prometheus is told, in a registry of our own.

What holds, and is tested: ``pending`` is 0 when nothing is asked. The sum of ``batch_size`` is the number of pictures
computed, and the count of ``queue_seconds``; the count of ``batch_size`` is that of ``compute_seconds``. Every refused
request is counted once in ``rejections`` and once in ``requests``, by its code; a bad picture among good ones of one
request is in ``rejections`` alone.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """All metrics of one server. Labels are names from fixed tables and of models, never a stranger's text."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("resight_requests", "Answered requests", ["endpoint", "code"], registry=registry)
        self.rejections = Counter(
            "resight_rejections", "Requests and pictures without an answer", ["reason"], registry=registry
        )
        self.request_seconds = Histogram(
            "resight_request_seconds", "From a request's head to its answer", ["endpoint"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.pictures = Counter("resight_pictures", "Pictures computed", ["model"], registry=registry)
        self.pending = Gauge("resight_pending", "Pictures waiting, decoded or computed", registry=registry)
        self.pending_bytes = Gauge("resight_pending_bytes", "Bytes of bodies that are held", registry=registry)
        self.queue_seconds = Histogram(
            "resight_queue_seconds", "From decoded to its batch, each picture", buckets=_SECONDS, registry=registry
        )
        self.compute_seconds = Histogram(
            "resight_compute_seconds", "The network, each batch", buckets=_SECONDS, registry=registry
        )
        self.batch_size = Histogram("resight_batch_size", "Pictures in a batch", buckets=_SIZES, registry=registry)
        self.loads = Counter("resight_model_loads", "Models opened", ["model", "result"], registry=registry)
        self.ready = Gauge("resight_model_ready", "Whether a model answers", ["model"], registry=registry)
        self.stale = Gauge(
            "resight_model_stale", "Whether the last reload failed and the earlier model answers", ["model"],
            registry=registry,
        )  # fmt: skip

    def text(self) -> bytes:
        return generate_latest(self.registry)
