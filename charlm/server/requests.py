"""The bodies of OpenAI's requests as settings. A field that has no effect here is refused by name.

https://platform.openai.com/docs/api-reference/completions/create and …/chat/create
"""

from collections.abc import Mapping

from charlm.config import Settings
from charlm.decoding import Sampling
from charlm.errors import UsageError
from charlm.server.errors import ApiError
from charlm.server.fields import Fields, quoted
from charlm.server.limits import Limits
from charlm.server.openai import Completion, Json, Prompt

MAX_LOG_PROBS = 20
MAX_BEAMS = 64
DEFAULT_CHAT_TOKENS = 512
SEED_RANGE = (-(2**63), 2**63 - 1)
NEUTRAL: Mapping[str, tuple[object, ...]] = {  # fields that clients send, and their values that ask for nothing
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "logit_bias": ({},),
    "suffix": ("",),
}
NEUTRAL_IN_CHAT: Mapping[str, tuple[object, ...]] = {
    **{name: values for name, values in NEUTRAL.items() if name != "suffix"},
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "functions": ([],),
    "modalities": (["text"],),
    "store": (False,),
    "metadata": ({},),
}


def parse_completion(data: object, limits: Limits) -> Completion:
    """Parse the body of a request for /v1/completions. Raises ApiError that names the field at fault."""
    fields = Fields(data)
    model, prompts = fields.text("model"), _prompts(fields.take("prompt"), limits)
    n = fields.integer("n", 1, 1, limits.max_streams)
    fields.must_be("best_of", (1, n))
    for name, values in NEUTRAL.items():
        fields.must_be(name, values)
    max_tokens = fields.integer("max_tokens", 16, 0, limits.new_tokens)
    if n * len(prompts) * max_tokens > limits.new_tokens:
        raise ApiError(f"n x prompts x max_tokens must be at most {limits.new_tokens}", param="max_tokens")
    log_probs = fields.integer("logprobs", -1, 0, MAX_LOG_PROBS)
    parsed = Completion(
        model=model,
        prompts=prompts,
        max_tokens=max_tokens,
        n=n,
        echo=fields.boolean("echo"),
        log_probs=None if log_probs < 0 else log_probs,
        **_shared(fields, limits),
        **_beams(fields, n),
    )
    fields.end()
    if parsed.beams and parsed.log_probs is not None:
        raise ApiError("logprobs do not go with beams", param="logprobs")
    if parsed.beams and parsed.sampling != Sampling():
        raise ApiError("beams search and draw nothing: they go with no temperature, top_p, …", param="beams")
    return parsed


def parse_chat(data: object, limits: Limits) -> Completion:
    """Parse the body of a request for /v1/chat/completions: each message is a line of the prompt."""
    fields = Fields(data)
    model, lines = fields.text("model"), _messages(fields.take("messages"))
    for name, values in NEUTRAL_IN_CHAT.items():
        fields.must_be(name, values)
    max_tokens = fields.integer("max_tokens", DEFAULT_CHAT_TOKENS, 1, limits.new_tokens)
    max_tokens = fields.integer("max_completion_tokens", max_tokens, 1, limits.new_tokens)
    n = fields.integer("n", 1, 1, limits.max_streams)
    if n * max_tokens > limits.new_tokens:
        raise ApiError(f"n x max_tokens must be at most {limits.new_tokens}", param="max_tokens")
    shared = _shared(fields, limits)
    shared["stop"] = ("\n", *shared["stop"])
    fields.end()
    prompt = "".join(f"{line}\n" for line in lines)
    return Completion(model=model, prompts=(prompt,), max_tokens=max_tokens, n=n, **shared)


def _shared(fields: Fields, limits: Limits) -> Json:
    """The settings that completions and chat have in common."""
    fields.text("user", "")  # has no effect
    stream = fields.boolean("stream")
    if not stream and "stream_options" in fields.left:
        raise ApiError("stream_options goes with stream: true", param="stream_options")
    options = fields.members("stream_options")
    include_usage = options.boolean("include_usage")
    options.boolean("include_obfuscation")
    options.end("stream_options")
    seed = fields.integer("seed", 0, *SEED_RANGE) if "seed" in fields.left else None
    return {
        "stop": _stop(fields.take("stop"), limits),
        "seed": seed,
        "sampling": parse_sampling(fields),
        "stream": stream,
        "include_usage": include_usage,
    }


def parse_sampling(fields: Fields) -> Sampling:
    """Parse temperature, top_p, top_k and min_p, with the bounds of `Sampling`."""
    given: Json = {}
    for name in Sampling.names():
        value = fields.take(name)
        if value is None:
            continue
        given[name] = _checked(Sampling, name, value)
    return Sampling(**given)


def _checked(kind: type[Settings], name: str, value: object) -> object:
    try:
        value = float(value) if type(value) is int and type(getattr(kind(), name)) is float else value
        kind(**{name: value})
    except OverflowError:
        raise ApiError(f"{name} must be a finite number, not {quoted(value)}", param=name) from None
    except UsageError as problem:
        raise ApiError(f"{name} {problem.problem}", param=name) from None
    return value


def _beams(fields: Fields, n: int) -> Json:
    beams = fields.integer("beams", 0, 1, MAX_BEAMS)
    if "length_penalty" in fields.left and not beams:
        raise ApiError("length_penalty goes with beams", param="length_penalty")
    if beams and n > beams:
        raise ApiError(f"n must be at most beams ({beams}), not {n}", param="n")
    return {"beams": beams or None, "length_penalty": fields.number("length_penalty", 0.0, 0.0, 10.0)}


def _prompts(value: object, limits: Limits) -> tuple[Prompt, ...]:
    """Parse a string, a list of strings, the ids of one prompt, or a list of those; the default is an empty prompt."""
    if value is None:
        return ("",)
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise ApiError("prompt must be a string, a list of strings, or a list of ids, or of such lists", param="prompt")
    if all(type(item) is int for item in value):
        return (_ids(value),)
    if len(value) > limits.prompts:
        raise ApiError(f"prompt must hold at most {limits.prompts} prompts, not {len(value)}", param="prompt")
    if all(isinstance(item, str) for item in value):
        return tuple(value)
    if all(isinstance(item, list) and item and all(type(id) is int for id in item) for item in value):
        return tuple(map(_ids, value))
    raise ApiError("prompt must hold strings, or ids, or lists of ids, of one kind only", param="prompt")


def _ids(value: list[int]) -> tuple[int, ...]:
    if not all(0 <= id < 2**31 for id in value):
        raise ApiError("prompt holds an id that no vocabulary has", param="prompt")
    return tuple(value)


def _stop(value: object, limits: Limits) -> tuple[str, ...]:
    strings = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(strings, list) or not all(isinstance(item, str) for item in strings):
        raise ApiError(f"stop must be a string or a list of strings, not {quoted(value)}", param="stop")
    if len(strings) > limits.stop_strings:
        raise ApiError(f"stop must hold at most {limits.stop_strings} strings, not {len(strings)}", param="stop")
    return tuple(filter(None, strings))  # some clients send "" for none


def _messages(value: object) -> list[str]:
    """The texts of the messages in order, whatever their roles."""
    if not isinstance(value, list) or not value:
        raise ApiError("messages must be a list of messages, at least one", param="messages")
    texts = []
    for number, message in enumerate(value):
        where = f"messages[{number}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ApiError(f"{where} must be an object with a role and content", param=where)
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list) or not all(map(_is_text, parts)):
            raise ApiError(f"{where}.content must be text", param=f"{where}.content")
        texts.append("".join(part["text"] for part in parts))
    return texts


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
