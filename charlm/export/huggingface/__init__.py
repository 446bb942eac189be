"""Runs as folders that Hugging Face Transformers opens, and such folders as runs.

writing     which form a run takes, and the files of it
starcoder2  a Transformer as a class that the library brings
with_code   any other network, n-gram or mixture of them, with the code that computes it there: `modeling_charlm.py`,
            and `mixture_charlm.py` beside it
tokenizer   tokenizer.json                  tokenizer_reading  and back
card        README.md, the model card
reading     a folder as a model             decoder   and such a model as a folder again
families    their settings                  weights   the names of their tensors
"""
