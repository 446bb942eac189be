"""The GRU's recurrence while it learns on a CPU, for which torch has no fused kernel: its gradient worked out by hand.

Shapes: T time steps, B streams, I inputs, H hidden width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Recurrence(torch.autograd.Function):
    """x (T, B, I), h (B, H), W (3H, I), U (3H, H), b and c (3H,) -> every h' (T, B, H), as torch.nn.GRU defines it:

    r, z = sigmoid(W x + b + U h + c), n = tanh(W x + b + r (U h + c)), h' = n + z (h - n).

    What h' passes back to each sum U h + c is its gradient times a share that is known once h' is. The way forth notes
    these shares, while all they are made of is in the cache; the way back is then one product a step, and one for each
    weight after that. Products are of the weights' type, what lies between them is float32 at least.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """As above, with h the state before the first step."""
        T, (B, H) = len(x), h.shape
        inputs = _multiplication(W, b)(x.flatten(0, 1)).view(T, B, 3, H).transpose(1, 2)
        hs, kept, shares = x.new_empty(T + 1, B, H), x.new_empty(T, 2, B, H), x.new_empty(T, B, 3, H)
        hs[0], h, times_U = h, h.to(_exact(h), copy=True), _multiplication(U, c)
        recurrent, gates, share = h.new_empty(3, 3, B, H)  # U h + c; r, z, n; what goes to U h + c
        (r, z, n), (to_r, to_z, to_read), slope, ones = gates, share, torch.empty_like(h), torch.ones_like(h)
        rz, zn, to_rz, read_rz, read = gates[:2], gates[1:], share[:2], recurrent[:2], recurrent[2]
        steps = zip(*(each.unbind() for each in (hs[:-1], hs[1:], inputs, kept, shares.transpose(1, 2))), strict=True)
        for before, after, row, z_and_to_n, share_kept in steps:
            recurrent.copy_(times_U(before).view(B, 3, H).transpose(0, 1))
            gates.copy_(row)
            rz.add_(read_rz).sigmoid_()
            n.addcmul_(r, read).tanh_()
            h.sub_(n)
            torch.mul(h, z, out=to_z)
            torch.add(n, to_z, out=h)
            after.copy_(h)
            torch.addcmul(ones, n, n, value=-1, out=slope)
            to_n = torch.addcmul(slope, slope, z, value=-1, out=n)  # (1 - z) (1 - n^2), in place of n
            torch.mul(to_n, r, out=to_read)
            torch.mul(to_read, read, out=to_r)
            to_rz.addcmul_(to_rz, rz, value=-1)  # the slopes of sigmoids are r (1 - r) and z (1 - z)
            z_and_to_n.copy_(zn)
            share_kept.copy_(share)
        ctx.save_for_backward(x, hs, kept, shares, W, U)
        return hs[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outside: Tensor) -> tuple[Tensor, ...]:
        """From the gradients of every h' by what reads it elsewhere, those of all inputs."""
        x, hs, kept, shares, W, U = ctx.saved_tensors
        T, B, H = outside.shape
        d, dhs = torch.empty_like(shares), torch.empty_like(hs[1:])  # the gradients of U h + c and of every h'
        dh, work = outside.new_zeros(2, B, H, dtype=_exact(outside))
        times_U = _multiplication(U.t())
        parts = (outside, shares, kept[:, 0], d, d.view(T, B, 3 * H), dhs, dhs.unsqueeze(2))
        steps = list(zip(*map(torch.unbind, parts), strict=True))
        for found, share, z, by_gate, row, rounded, column in reversed(steps):
            rounded.copy_(dh.add_(work.copy_(found)))
            torch.mul(share, column, out=by_gate)
            dh.mul_(work.copy_(z)).add_(work.copy_(times_U(row)))
        flat = d.view(T * B, 3 * H)
        dU, dc = flat.t() @ hs[:-1].flatten(0, 1), flat.sum(0)
        torch.mul(dhs, kept[:, 1], out=d[:, :, 2])  # and now of W x + b, which differ in n's
        dW, db = flat.t() @ x.flatten(0, 1), flat.sum(0)
        return (flat @ W).view_as(x), dh.to(outside.dtype), dW, dU, db, dc


def _exact(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _multiplication(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """x (N, I) -> x weight^T + bias, the weight laid out for it once; for bfloat16 torch would do that at each call."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if weight.dtype == torch.bfloat16 and has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    laid_out = weight.t().contiguous().t()
    return lambda x: nn.functional.linear(x, laid_out, bias)
