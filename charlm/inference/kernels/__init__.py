"""Loops compiled by numba, a file for each family of architectures; `arithmetic.load` compiles what is needed, once.

They hold no lock of Python, so that threads can share the streams. Matrices are laid out as `nn.Linear` keeps them,
(outputs, inputs).
"""
