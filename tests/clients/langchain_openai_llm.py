"""LangChain's `OpenAI` class: invoke, batch, stream, generate with log-probabilities."""

import sys

from langchain_openai import OpenAI

url, model = sys.argv[1:3]
llm = OpenAI(base_url=f"{url}/v1", api_key="none", model=model, max_tokens=40, seed=4, temperature=0.7)
whole = llm.invoke("ROMEO:")
assert len(whole) >= 40, whole
assert "".join(llm.stream("ROMEO:")) == whole
assert llm.batch(["ROMEO:", "ROMEO:"]) == [whole, whole]
assert llm.invoke("ROMEO:", stop=[whole[10]]) == whole[: whole.index(whole[10])]
several = OpenAI(base_url=f"{url}/v1", api_key="none", model=model, max_tokens=20, n=3, best_of=3, seed=4, logprobs=2)
result = several.generate(["ROMEO:", "JULIET:"])
assert [len(texts) for texts in result.generations] == [3, 3]
for texts in result.generations:
    assert len({text.text for text in texts}) == 3
    for text in texts:
        assert text.generation_info is not None
        assert len(text.generation_info["logprobs"]["tokens"]) == 20
assert result.llm_output is not None
assert result.llm_output["token_usage"]["completion_tokens"] == 120
print(f"LangChain: {model} invoked, streamed, batched, n=3: {whole!r}")
