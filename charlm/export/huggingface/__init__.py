"""Runs as folders that Hugging Face Transformers opens, and such folders as runs.

writing          which form a run takes, and the files of it
starcoder2       a Transformer as a class that the library brings
with_code        any other network, with `modeling_charlm.py`, which computes it there
tokenizer        tokenizer.json
card             README.md, the model card
"""
