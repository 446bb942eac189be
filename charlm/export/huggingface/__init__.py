"""Runs as folders that Hugging Face Transformers opens, and such folders as runs.

writing     which form a run takes, and the files of it
starcoder2  a Transformer as a class that the library brings
with_code   any other network, with `modeling_charlm.py`, which computes it there
tokenizer   tokenizer.json                  tokenizer_reading  and back
card        README.md, the model card
reading     a folder as a model             decoder   and such a model as a folder again
families    their settings                  weights   the names of their tensors
"""
