"""lm-evaluation-harness, `local-completions`, on tasks made of local files: rolling, multiple choice, generation.

    lm_eval_local.py URL MODEL TEXT "$(charlm evaluate RUN --text TEXT --json)"

The sum over the document must be what `charlm evaluate` says of it. No hub is asked for anything.
"""

import json
import math
import os
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY="none")

import lm_eval
from lm_eval.tasks import TaskManager

url, model, text_file, evaluated = sys.argv[1:5]
text = Path(text_file).read_text(encoding="utf-8")
expected = json.loads(evaluated)
LINES = [line for line in text.split("\n") if len(line) > 30][:20]
BASE = """
task: {task}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: {output}
{rest}
"""
TASKS = {
    "document": (
        "loglikelihood_rolling",
        "doc_to_text: ''\ndoc_to_target: '{{text}}'\nmetric_list: [{metric: bits_per_byte}]",
    ),
    "choice": (
        "multiple_choice",
        "doc_to_text: '{{begin}}'\ndoc_to_choice: choices\ndoc_to_target: 0\ntarget_delimiter: ''\n"
        "metric_list: [{metric: acc}]",
    ),
    "writing": (
        "generate_until",
        "doc_to_text: '{{begin}}'\ndoc_to_target: ''\ngeneration_kwargs: {until: [\"\\n\"], max_gen_toks: 20}\n"
        "metric_list: [{metric: exact_match}]",
    ),
}  # fmt: skip


def choice(line: str) -> dict[str, object]:
    half = len(line) // 2
    return {"begin": line[:half], "choices": [line[half:], line[half:][::-1], line[half:].upper()]}


with tempfile.TemporaryDirectory() as folder:
    documents = {"document": [{"text": text}], "choice": [choice(line) for line in LINES]}
    documents["writing"] = documents["choice"]
    for task, (output, rest) in TASKS.items():
        file = Path(folder, f"{task}.jsonl")
        file.write_text("".join(json.dumps(document) + "\n" for document in documents[task]), encoding="utf-8")
        yaml = BASE.format(task=task, file=file, output=output, rest=rest)
        Path(folder, f"{task}.yaml").write_text(yaml, encoding="utf-8")
    for extra in ("", ",tokenized_requests=False"):
        found = lm_eval.simple_evaluate(
            "local-completions",
            model_args=f"model={model},base_url={url}/v1/completions,max_length=200000,num_concurrent=4{extra}",
            tasks=list(TASKS),
            task_manager=TaskManager(include_path=folder, include_defaults=False),
            batch_size=4,
            log_samples=True,
            bootstrap_iters=0,
        )
        samples = found["samples"]
        ((nats,),) = [sample["filtered_resps"] for sample in samples["document"]]
        nats = nats[0] if isinstance(nats, (list, tuple)) else nats
        bits = -nats / math.log(2)
        right = expected["bits"] if "bits" in expected else expected["bits_per_character"] * expected["characters"]
        assert abs(bits / right - 1) < 1e-6, (bits, right)
        assert found["results"]["choice"]["acc,none"] > 0.9, found["results"]["choice"]
        written = [sample["filtered_resps"][0] for sample in samples["writing"]]
        assert any(written), written
        assert not any("\n" in one for one in written), written
        print(f"lm-eval{extra}: {model}, {bits:.3f} bits over the document, charlm evaluate says {right:.3f}; ", end="")
        print(f"choices {found['results']['choice']['acc,none']:.2f}; wrote {written[0]!r}")
