"""onnxruntime-web on an exported run, by the example page's own code: the same ids, the same log-probabilities.

    onnx_web.py RUN TEXT SCRIPT, which is a copy of onnx_web.mjs beside examples/onnx/model.mjs and onnxruntime-web

The run is a network of characters or bytes.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from charlm import checkpoint
from charlm.export.onnx import write_onnx

run = checkpoint.load(Path(sys.argv[1]))
text = Path(sys.argv[2]).read_bytes().decode()
script = Path(sys.argv[3])
with tempfile.TemporaryDirectory() as folder:
    file, outcome = Path(folder) / "run.onnx", Path(folder) / "outcome.json"
    with file.open("wb") as opened:
        write_onnx(run.model, run.tokenizer, opened)
    subprocess.run(["node", script, file, sys.argv[2], outcome], check=True)
    theirs = json.loads(outcome.read_text())
assert theirs["ids"] == run.tokenizer.encode(text).tolist(), "other ids"
with torch.no_grad():
    log_probs, _ = run.model(torch.tensor([[0, *theirs["ids"]]]), run.model.initial_state(1))
difference = (log_probs[0] - torch.tensor(theirs["logProbs"])).abs().max().item()
assert difference < 1e-3, difference
print(f"onnxruntime-web: {len(theirs['ids'])} ids agree, ln P to {difference:.1e}; it writes {theirs['written']!r}")
