"""A binary tree over the symbols: frequent ones have short paths.

Shapes: A symbols, and so A - 1 inner nodes; D the longest path.
"""

import heapq
from typing import Any, NamedTuple

import numpy as np

Integers = np.ndarray[Any, np.dtype[Any]]


class Tree(NamedTuple):
    """The path of each symbol from the root, node 0: the inner nodes on it, and which way it turns at each."""

    nodes: Integers  # (A, D) int32
    bits: Integers  # (A, D) uint8
    depth: Integers  # (A,) int32
    parents: Integers  # (A - 1,) int32: of each inner node, a lower number; the root is its own
    levels: Integers  # (A - 1,) int32: how many inner nodes are above each


def huffman(counts: Integers) -> Tree:
    """The tree in which the symbols, counted (A,), have the shortest paths on average (Huffman 1952)."""
    symbols = len(counts)
    heap = [(int(count), symbol) for symbol, count in enumerate(counts)]  # ties: the lower number first
    heapq.heapify(heap)
    children: list[tuple[int, int]] = []
    while len(heap) > 1:
        (left, first), (right, second) = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (left + right, symbols + len(children)))
        children.append((first, second))
    paths: list[list[tuple[int, int]]] = [[] for _ in range(symbols)]
    waiting: list[tuple[int, list[tuple[int, int]]]] = [(symbols + len(children) - 1, [])]
    while waiting:
        item, path = waiting.pop()
        if item < symbols:
            paths[item] = path
            continue
        node = symbols + len(children) - 1 - item  # the root was made last
        waiting += [(child, [*path, (node, bit)]) for bit, child in enumerate(children[item - symbols])]
    longest = max(1, *map(len, paths)) if paths else 1
    tree = Tree(
        np.zeros((symbols, longest), np.int32),
        np.zeros((symbols, longest), np.uint8),
        np.array([len(path) for path in paths], np.int32),
        np.zeros(len(children), np.int32),
        np.zeros(len(children), np.int32),
    )
    for symbol, path in enumerate(paths):
        for step, (node, bit) in enumerate(path):
            tree.nodes[symbol, step], tree.bits[symbol, step] = node, bit
            tree.parents[node], tree.levels[node] = path[max(0, step - 1)][0], step
    return tree
