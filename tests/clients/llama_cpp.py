"""llama.cpp on an exported run: the same ids, the same text, the same log-probabilities.

    llama_cpp.py RUN TEXT SCRIPT, which is a copy of llama_cpp.mjs where node finds node-llama-cpp

The run is a Transformer of `--preset portable`; the first W ids are compared, W being its window.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from charlm import checkpoint
from charlm.export.gguf.nemotron import fit, write_gguf

run = checkpoint.load(Path(sys.argv[1]))
text = Path(sys.argv[2]).read_bytes().decode()
script = Path(sys.argv[3])
with tempfile.TemporaryDirectory() as folder:
    file, outcome = Path(folder) / "run.gguf", Path(folder) / "outcome.json"
    with file.open("wb") as opened:
        write_gguf(run.model, run.tokenizer, run.name, opened)
    subprocess.run(["node", script, file, sys.argv[2], outcome], check=True)
    theirs = json.loads(outcome.read_text())
assert theirs["ids"] == run.tokenizer.encode(text).tolist(), "other ids"
assert theirs["text"] == text, "another text"
model = fit(run.model).model
with torch.no_grad():
    log_probs, _ = model(torch.tensor([theirs["read"]]), model.initial_state(1))
difference = (log_probs[0] - torch.tensor(theirs["logProbs"])).abs().max().item()
assert difference < 1e-3, difference
print(f"llama.cpp: {len(theirs['ids'])} ids and {len(theirs['read'])} positions agree, ln P to {difference:.1e}")
