"""GET /metrics: what Prometheus collects."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from charlm.server.guard import RequestRecord
from charlm.server.service import Service

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The counters of one server."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("charlm_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.tokens = Counter("charlm_tokens", "Tokens of prompts and answers.", ["kind"], registry=self.registry)
        self.seconds = Histogram(
            "charlm_request_seconds",
            "How long requests took.",
            ["route"],
            buckets=BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.first = Histogram(
            "charlm_first_token_seconds", "Until an answer began.", buckets=BUCKETS_SECONDS, registry=self.registry
        )
        active = Gauge("charlm_active_streams", "Texts written, and prompts read, now.", registry=self.registry)
        active.set_function(lambda: service.scheduler.active)
        waiting = Gauge("charlm_waiting_requests", "Requests in the queue.", registry=self.registry)
        waiting.set_function(lambda: service.scheduler.waiting)
        loaded = Gauge("charlm_loaded_models", "Models in memory.", registry=self.registry)
        loaded.set_function(lambda: service.library.loaded_count)

    def record(self, record: RequestRecord) -> None:
        """Count a request."""
        self.requests.labels(record.route, str(record.status)).inc()
        self.seconds.labels(record.route).observe(record.seconds)
        self.tokens.labels("prompt").inc(record.prompt_tokens)
        self.tokens.labels("completion").inc(record.completion_tokens)
        if record.first_token_seconds is not None:
            self.first.observe(record.first_token_seconds)

    async def page(self, _: Request) -> Response:
        """GET /metrics."""
        return Response(generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
