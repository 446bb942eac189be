"""The GRU's recurrence with a gradient of its own, for training on a CPU, where torch has no fused kernel.

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

    The gradient of each element of U h + c is the gradient of h' times a factor that depends on r, z and n only. The
    forward pass computes these factors while their operands are in the processor's cache; the backward pass then needs
    one matrix product a step, and one for each weight at the end. Products are computed in the type of the weights,
    everything between them in float32 or wider.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """Run all steps; h is the state before the first."""
        T, (B, H) = len(x), h.shape
        inputs = _multiplication(W, b)(x.flatten(0, 1)).view(T, B, 3, H).transpose(1, 2)
        hs, zs_and_to_n, factors = x.new_empty(T + 1, B, H), x.new_empty(T, 2, B, H), x.new_empty(T, B, 3, H)
        hs[0], h, times_U = h, h.to(_exact(h), copy=True), _multiplication(U, c)
        recurrent, gates, factor = h.new_empty(3, 3, B, H)  # U h + c; r, z, n; the factors of U h + c
        (r, z, n), (to_r, to_z, to_u), slope, ones = gates, factor, torch.empty_like(h), torch.ones_like(h)
        rz, zn, to_rz, u_rz, u = gates[:2], gates[1:], factor[:2], recurrent[:2], recurrent[2]
        arrays = (hs[:-1], hs[1:], inputs, zs_and_to_n, factors.transpose(1, 2))
        steps = zip(*(array.unbind() for array in arrays), strict=True)
        for before, after, row, z_and_to_n, step_factor in steps:
            recurrent.copy_(times_U(before).view(B, 3, H).transpose(0, 1))
            gates.copy_(row)
            rz.add_(u_rz).sigmoid_()
            n.addcmul_(r, u).tanh_()
            h.sub_(n)
            torch.mul(h, z, out=to_z)
            torch.add(n, to_z, out=h)
            after.copy_(h)
            torch.addcmul(ones, n, n, value=-1, out=slope)
            to_n = torch.addcmul(slope, slope, z, value=-1, out=n)  # (1 - z) (1 - n^2), in place of n
            torch.mul(to_n, r, out=to_u)
            torch.mul(to_u, u, out=to_r)
            to_rz.addcmul_(to_rz, rz, value=-1)  # the derivatives of sigmoids are r (1 - r) and z (1 - z)
            z_and_to_n.copy_(zn)
            step_factor.copy_(factor)
        ctx.save_for_backward(x, hs, zs_and_to_n, factors, W, U)
        return hs[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """The gradients of all inputs, given those of the outputs, `gradient` (T, B, H)."""
        x, hs, zs_and_to_n, factors, W, U = ctx.saved_tensors
        T, B, H = gradient.shape
        d, dhs = torch.empty_like(factors), torch.empty_like(hs[1:])  # the gradients of U h + c and of every h'
        dh, work = gradient.new_zeros(2, B, H, dtype=_exact(gradient))
        times_U = _multiplication(U.t())
        arrays = (gradient, factors, zs_and_to_n[:, 0], d, d.view(T, B, 3 * H), dhs, dhs.unsqueeze(2))
        steps = list(zip(*map(torch.unbind, arrays), strict=True))
        for output, factor, z, by_gate, row, rounded, column in reversed(steps):
            rounded.copy_(dh.add_(work.copy_(output)))
            torch.mul(factor, column, out=by_gate)
            dh.mul_(work.copy_(z)).add_(work.copy_(times_U(row)))
        flat = d.view(T * B, 3 * H)
        dU, dc = flat.t() @ hs[:-1].flatten(0, 1), flat.sum(0)
        torch.mul(dhs, zs_and_to_n[:, 1], out=d[:, :, 2])  # now d is the gradient of W x + b, which differs in n
        dW, db = flat.t() @ x.flatten(0, 1), flat.sum(0)
        return (flat @ W).view_as(x), dh.to(gradient.dtype), dW, dU, db, dc


def _exact(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _multiplication(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """x (N, I) -> x weight^T + bias. The weight is laid out once; for bfloat16 torch would do it in every call."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if weight.dtype == torch.bfloat16 and has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    laid_out = weight.t().contiguous().t()
    return lambda x: nn.functional.linear(x, laid_out, bias)
