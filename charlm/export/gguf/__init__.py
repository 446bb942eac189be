"""Transformers as GGUF files, which llama.cpp and the programs built on it run.

nemotron   the weights and settings, as an architecture of llama.cpp's
tokenizer  the vocabulary, as byte-level BPE
file       the format: named values and tensors
"""
