"""What a server counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from omnictl.serve.replies.conversation import ReadConversation
from omnictl.serve.traffic.scheduler import Scheduler

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.6, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class ServeMetrics:
    """Counters of one server.

    Args:
        scheduler: knows who is served and who waits.
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, scheduler: Scheduler) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("omnictl_requests", "Answered requests.", ["route", "status"], registry=self._registry)
        self.seconds = Histogram(
            "omnictl_request_seconds", "Until a response ended.", ["route"], buckets=SECONDS, registry=self._registry
        )
        self.tokens = Counter("omnictl_tokens", "Positions read, and tokens written.", ["kind"], registry=self._registry)
        self.first_token = Histogram("omnictl_first_token_seconds", "From a request.", buckets=SECONDS, registry=self._registry)
        self.first_audio = Histogram("omnictl_first_audio_seconds", "From a request.", buckets=SECONDS, registry=self._registry)
        self.speech = Counter("omnictl_speech_seconds", "Seconds of speech that were made.", registry=self._registry)
        self.heard = Counter("omnictl_heard_seconds", "Seconds of recordings that were transcribed.", registry=self._registry)
        self._registry.register(_Load(scheduler))

    def count_reply(self, conversation: ReadConversation, new_tokens: int) -> None:
        """Count what was read and written for an answer that is whole."""
        self.tokens.labels("text").inc(conversation.text_tokens)
        for kind, count in conversation.media_tokens.items():
            self.tokens.labels(kind).inc(count)
        self.tokens.labels("new").inc(new_tokens)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)


class _Load:
    """Requests that are being computed, and those that wait."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def collect(self) -> list[GaugeMetricFamily]:
        """Called by the registry."""
        return [
            GaugeMetricFamily("omnictl_active_requests", "Computed in turns.", value=self._scheduler.num_active),
            GaugeMetricFamily("omnictl_waiting_requests", "Without a turn yet.", value=self._scheduler.num_waiting),
        ]
