"""Loops compiled by numba, a file for each family of architectures; `arithmetic.load` compiles what is needed, once.

numba compiles a file anew when that file changes, but not when `arithmetic` does: delete __pycache__ after that.

They hold no lock of Python, so that threads can share the streams. Matrices are laid out as `nn.Linear` keeps them,
(outputs, inputs).
"""
