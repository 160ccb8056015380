"""Operators that move, cut, join and repeat numbers, and those on shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from lwc.compiler.recover.operators.attributes import Attributes
from lwc.compiler.recover.operators.dtypes import to_torch

Operator = Callable[..., object]

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _axes(a: Attributes, axes: Tensor | None) -> list[int] | None:
    """Axes of the attribute that older opsets have, or of the input of newer ones."""
    return a.ints("axes") if axes is None else axes.reshape(-1).tolist()


def constant(a: Attributes) -> Tensor:
    tensor = a.tensor("value")
    if tensor is not None:
        return to_torch(tensor.numpy())
    if "value_ints" in a.node.attributes or "value_int" in a.node.attributes:
        ints = a.ints("value_ints")
        return torch.tensor(a.integer("value_int") if ints is None else ints, dtype=torch.int64)
    if "value_floats" in a.node.attributes:
        return torch.tensor(a.floats("value_floats"), dtype=torch.float32)
    return torch.tensor(a.number("value_float"), dtype=torch.float32)


def constant_of_shape(a: Attributes, shape: Tensor) -> Tensor:
    value = a.tensor("value")
    filler = torch.zeros(1) if value is None else to_torch(value.numpy())
    return filler.reshape(()).expand(shape.tolist()).clone()


def reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    """0 keeps the size of that axis, unless allowzero says otherwise."""
    sizes = shape.tolist()
    if not a.flag("allowzero"):
        sizes = [x.shape[k] if size == 0 else size for k, size in enumerate(sizes)]
    return x.reshape(sizes)


def flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.integer("axis", 1)
    rows = 1
    for size in x.shape[: axis + x.ndim if axis < 0 else axis]:
        rows *= size
    return x.reshape(rows, -1)


def transpose(a: Attributes, x: Tensor) -> Tensor:
    return x.permute(a.ints("perm") or list(reversed(range(x.ndim))))


def squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = _axes(a, axes)
    return x.squeeze() if found is None else x.squeeze(tuple(found))


def unsqueeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = _axes(a, axes) or []
    rank = x.ndim + len(found)
    for axis in sorted(axis % rank for axis in found):
        x = x.unsqueeze(axis)
    return x


def split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.integer("axis")
    given = a.ints("split") if sizes is None else sizes.tolist()
    if given is None:
        given = -(-x.shape[axis] // a.integer("num_outputs", a.outputs))
    parts: tuple[Tensor, ...] = torch.split(x, given, axis)
    return parts


def slice_(
    a: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    """Python's slices; torch has none that go backwards."""
    begins, limits = starts.tolist(), ends.tolist()
    along = list(range(len(begins))) if axes is None else axes.tolist()
    strides = [1] * len(begins) if steps is None else steps.tolist()
    for begin, limit, axis, step in zip(begins, limits, along, strides, strict=True):
        taken = range(x.shape[axis])[begin:limit:step]
        if step == 1:
            x = x.narrow(axis, taken.start if taken else 0, len(taken))
        else:
            x = x.index_select(axis, torch.tensor(list(taken), dtype=torch.int64))
    return x


def gather(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = a.integer("axis") % x.ndim
    places = _from_front(indices, x.shape[axis])
    taken = x.index_select(axis, places.reshape(-1))
    return taken.reshape([*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])


def gather_elements(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = a.integer("axis")
    return torch.gather(x, axis, _from_front(indices, x.shape[axis]))


def gather_nd(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    """x at the places that the last axis of the indices names, behind axes that both have in common."""
    batches = a.integer("batch_dims")
    own = torch.meshgrid(*[torch.arange(size) for size in x.shape[:batches]], indexing="ij") if batches else ()
    spare = [1] * (indices.ndim - 1 - batches)
    named = [_from_front(part, x.shape[batches + k]) for k, part in enumerate(indices.unbind(-1))]
    return x[(*[place.reshape(*place.shape, *spare) for place in own], *named)]


def scatter_elements(a: Attributes, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis, how = a.integer("axis"), a.text("reduction", "none")
    places = _from_front(indices, x.shape[axis])
    if how == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[how])


def scatter_nd(a: Attributes, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    how = a.text("reduction", "none")
    if how not in ("none", "add"):
        raise NotImplementedError(f"ScatterND with reduction {how}")
    places = tuple(_from_front(part, x.shape[k]) for k, part in enumerate(indices.unbind(-1)))
    return x.index_put(places, updates, accumulate=how == "add")


def _from_front(indices: Tensor, size: int) -> Tensor:
    places = indices.long()
    return torch.where(places < 0, places + size, places)


def one_hot(a: Attributes, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    size = int(depth.reshape(-1)[0])
    hot = _from_front(indices, size)[..., None] == torch.arange(size)
    return torch.where(hot.movedim(-1, a.integer("axis", -1)), values[1], values[0])


def expand(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))


def pad(a: Attributes, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    """Negative pads cut. torch names the last axis first and repeats what is near the border on up to three axes."""
    amounts = pads.tolist()
    along = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    count = len(along)
    mode = _PAD_MODES[a.text("mode", "constant")]
    ends = dict(zip(along, zip(amounts[:count], amounts[count:], strict=True), strict=True))
    flat = [n for axis in reversed(range(x.ndim)) for n in ends.get(axis, (0, 0))]
    if mode == "constant":
        return F.pad(x, flat, value=0.0 if value is None else value.item())
    while len(flat) >= 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    spare = max(0, 2 + len(flat) // 2 - x.ndim)
    padded = F.pad(x.reshape(*[1] * spare, *x.shape), flat, mode=mode) if flat else x
    return padded.reshape(padded.shape[spare:]) if flat else padded


def shape_of(a: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[a.integer("start") : a.integer("end", x.ndim)], dtype=torch.int64)


def value_range(a: Attributes, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def depth_to_space(a: Attributes, x: Tensor) -> Tensor:
    size = a.integer("blocksize")
    n, c, h, w = x.shape
    if a.text("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, size)
    blocks = x.reshape(n, size, size, c // size**2, h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, c // size**2, h * size, w * size)


def space_to_depth(a: Attributes, x: Tensor) -> Tensor:
    size = a.integer("blocksize")
    n, c, h, w = x.shape
    if a.text("mode", "DCR") == "CRD":
        return F.pixel_unshuffle(x, size)
    blocks = x.reshape(n, c, h // size, size, w // size, size)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, c * size**2, h // size, w // size)


def triangle(a: Attributes, x: Tensor, k: Tensor | None = None) -> Tensor:
    keep = torch.triu if a.flag("upper", True) else torch.tril
    return keep(x, 0 if k is None else int(k))


OPERATORS: Mapping[str, Operator] = {
    "Concat": lambda a, *xs: torch.cat(xs, a.integer("axis")),
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "NonZero": lambda a, x: torch.nonzero(x).T,
    "OneHot": one_hot,
    "Pad": pad,
    "Range": value_range,
    "Reshape": reshape,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Shape": shape_of,
    "Size": lambda a, x: torch.tensor(x.numel(), dtype=torch.int64),
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": lambda a, x, repeats: x.repeat(repeats.tolist()),
    "Transpose": transpose,
    "Trilu": triangle,
    "Unsqueeze": unsqueeze,
}
