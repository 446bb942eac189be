"""Kernels compiled by numba, one file for each family of architectures; `arithmetic.load` compiles or loads them.

numba compiles a file again when that file changes, but not when `arithmetic` changes: delete __pycache__ then.

Kernels release the global interpreter lock, so threads can share the streams. Matrices have the layout of `nn.Linear`,
(outputs, inputs).
"""
