"""How much of the machine a server gives to its clients."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of requests. A request that exceeds them is refused, not cut."""

    max_waiting: int = 64  # requests in the queue
    max_streams: int = 64  # texts that are written, or prompts that are read, at the same time
    body_bytes: int = 8 << 20
    body_seconds: float = 4.0  # until the whole body of a request has arrived
    request_seconds: float = 600.0  # from the start of a request's first prompt to its end
    prompts: int = 1024  # of one request
    prompt_tokens: int = 1 << 18  # of one prompt
    new_tokens: int = 1 << 18  # of one request: prompts x n x max_tokens
    listed_log_probs: int = 1 << 19  # of one request: tokens x (logprobs + 1)
    stop_strings: int = 16
    typed_characters: int = 1 << 14  # of a text in the playground
