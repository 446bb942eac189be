"""`llm` by Simon Willison: a model of ours declared with `completion: true`, asked as its users do."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

url, model = sys.argv[1:3]
with tempfile.TemporaryDirectory() as folder:
    declared = f"- model_id: ours\n  model_name: {model}\n  api_base: {url}/v1\n  completion: true\n"
    Path(folder, "extra-openai-models.yaml").write_text(declared, encoding="utf-8")
    environment = {**os.environ, "LLM_USER_PATH": folder, "OPENAI_API_KEY": "none"}
    llm = Path(sys.executable).with_name("llm")

    def ask(*options: str) -> str:
        command = [str(llm), "-m", "ours", *options, "ROMEO:"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    seeded = ["-o", "seed", "4", "-o", "max_tokens", "60", "-o", "temperature", "0.7"]
    streamed, whole = ask(*seeded), ask("--no-stream", *seeded)
    assert len(streamed.strip()) > 20, streamed
    assert streamed == whole, (streamed, whole)
print(f"llm: {model} wrote {len(streamed)} characters, the same streamed and whole: {streamed[:50]!r}…")
