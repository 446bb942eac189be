"""lm-evaluation-harness with a run in its own process: the tasks of `lm_eval_local.py`, without a server.

lm_eval_in_process.py RUN TEXT "$(charlm evaluate RUN --text TEXT --json)"
"""

import json
import math
import os
import sys
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

import charlm.lm_eval  # noqa: F401 - registers the model

run, text_file, evaluated = sys.argv[1:4]
text, expected = Path(text_file).read_text(encoding="utf-8"), json.loads(evaluated)
model = get_model("charlm").create_from_arg_string(f"run={run}", {"batch_size": 1, "device": None})


def asked(kind: str, *arguments: object) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


(nats,) = model.loglikelihood_rolling([asked("loglikelihood_rolling", text)])
bits = -nats / math.log(2)
assert abs(bits / expected["bits"] - 1) < 1e-6, (bits, expected["bits"])
whole, rest = text[:300], text[100:300]
((continued, _),) = model.loglikelihood([asked("loglikelihood", text[:100], rest)])
parts = [model.loglikelihood_rolling([asked("loglikelihood_rolling", part)])[0] for part in (whole, text[:100])]
assert math.isclose(continued, parts[0] - parts[1], rel_tol=1e-4), (continued, parts)
(written,) = model.generate_until([asked("generate_until", text[:100], {"until": ["\n"], "max_gen_toks": 40})])
((_, greedy),) = model.loglikelihood([asked("loglikelihood", text[:100], written[:10])])
assert greedy or model.tokenizer.kind == "sentencepiece", written  # whose pieces depend on what follows them
assert "\n" not in written
print(f"lm-eval in process: {run}, {bits:.3f} bits over the document, charlm evaluate says {expected['bits']:.3f}")
