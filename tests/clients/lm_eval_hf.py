"""lm-evaluation-harness with its own `hf` model on an exported folder, against `charlm serve` with the run itself.

    lm_eval_hf.py FOLDER URL MODEL TEXT

The log-likelihoods of continuations and of documents must agree to 1e-4 of a nat a character. A Starcoder2, which has
no floor of the probabilities, agrees as far as the floor lets it, and how far apart the two are is shown.
"""

import json
import os
import sys
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY="none")

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM

folder, url, model, text_file = sys.argv[1:5]
text = Path(text_file).read_text(encoding="utf-8")
LINES = [line for line in text.split("\n") if len(line) > 30][:20]


def asked(kind: str, *arguments: object) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def opened(*, boundary: bool) -> HFLM:
    """`boundary` asks for the one that the tokenizer puts before a text; of documents the harness scores it, too."""
    options = {"trust_remote_code": True, "batch_size": 1, "device": "cpu", "max_length": 20_000}
    return HFLM(pretrained=folder, add_bos_token=boundary, **options)


here = get_model("local-completions").create_from_arg_string(
    f"model={model},base_url={url}/v1/completions,max_length=200000", {"batch_size": 1, "device": None}
)
pairs = [asked("loglikelihood", line[:15], line[15:]) for line in LINES]
documents = [asked("loglikelihood_rolling", text[:1000])]
apart = []
for name, requests, boundary in (("loglikelihood", pairs, True), ("loglikelihood_rolling", documents, False)):
    theirs = getattr(opened(boundary=boundary), name)(requests, disable_tqdm=True)
    ours = getattr(here, name)(requests, disable_tqdm=True)
    for request, their, our in zip(requests, theirs, ours, strict=True):
        their_nats, our_nats = (one[0] if isinstance(one, tuple) else one for one in (their, our))
        apart.append(abs(their_nats - our_nats) / len(request.args[-1]))
native = json.loads((Path(folder) / "config.json").read_text())["model_type"] != "charlm"
assert native or max(apart) < 1e-4, apart
print(f"lm-eval hf: {folder}, {len(apart)} log-likelihoods, {max(apart):.1e} nats a character apart from the server's")
