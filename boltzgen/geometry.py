"""Zero-centroid coordinates, internal coordinates and mirror images, as pure tensor functions.

Configurations are tensors ``x`` of shape ``(..., n_atoms, 3)`` in nm with zero unweighted centroid.
The number of degrees of freedom and the projection onto the zero-centroid space are defined here and
nowhere else.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def dof(n_atoms: int) -> int:
    """Dimension of the zero-centroid space of ``n_atoms`` atoms: ``3 (n_atoms - 1)``."""
    return 3 * (n_atoms - 1)


def remove_centroid(x: Tensor) -> Tensor:
    """Project ``(..., n_atoms, 3)`` onto the zero-centroid space by subtracting the unweighted centroid."""
    return x - x.mean(dim=-2, keepdim=True)


def zero_centroid_noise(
    shape: tuple[int, ...],
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal noise on the zero-centroid space, shape ``(..., n_atoms, 3)``.

    It is drawn on the generator's device and moved to ``device``, so a CPU generator gives the same
    numbers whatever the device of the computation.
    """
    noise = torch.randn(shape, generator=generator, dtype=dtype, device=generator.device)
    return remove_centroid(noise).to(device)


def squared_norm(x: Tensor) -> Tensor:
    """Sum of squares over atoms and axes, ``(..., n_atoms, 3) -> (...)``."""
    return x.square().sum(dim=(-2, -1))


def gaussian_log_normaliser(n_atoms: int, variance: Tensor) -> Tensor:
    """``log`` of the integral of ``exp(-|x|^2 / (2 variance))`` over the zero-centroid space (nm^dof)."""
    return 0.5 * dof(n_atoms) * torch.log(2 * math.pi * variance)


def gaussian_log_density(x: Tensor, variance: Tensor) -> Tensor:
    """Log density of the isotropic zero-centroid Gaussian, ``(..., n_atoms, 3) -> (...)``.

    ``variance`` in nm^2 broadcasts against the batch shape.
    """
    return -0.5 * squared_norm(x) / variance - gaussian_log_normaliser(x.shape[-2], variance)


def random_rotations(
    n: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """``(n, 3, 3)`` rotations, uniform over SO(3), from normalised Gaussian quaternions."""
    q = torch.randn((n, 4), generator=generator, dtype=dtype, device=generator.device)
    w, a, b, c = torch.nn.functional.normalize(q, dim=-1).to(device).unbind(-1)
    rows = [
        1 - 2 * (b * b + c * c),
        2 * (a * b - c * w),
        2 * (a * c + b * w),
        2 * (a * b + c * w),
        1 - 2 * (a * a + c * c),
        2 * (b * c - a * w),
        2 * (a * c - b * w),
        2 * (b * c + a * w),
        1 - 2 * (a * a + b * b),
    ]
    return torch.stack(rows, dim=-1).view(n, 3, 3)


def mirror(x: Tensor) -> Tensor:
    """Mirror image through the xy plane."""
    return x * x.new_tensor([1.0, 1.0, -1.0])


def distance(x: Tensor, atoms: tuple[int, ...]) -> Tensor:
    """Distance between two atoms in nm, ``(..., n_atoms, 3) -> (...)``."""
    i, j = atoms
    return (x[..., j, :] - x[..., i, :]).norm(dim=-1)


def angle(x: Tensor, atoms: tuple[int, ...]) -> Tensor:
    """Angle i-j-k in radians in [0, pi], ``(..., n_atoms, 3) -> (...)``."""
    i, j, k = atoms
    a, b = x[..., i, :] - x[..., j, :], x[..., k, :] - x[..., j, :]
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1))


def torsion(x: Tensor, atoms: tuple[int, ...]) -> Tensor:
    """Torsion i-j-k-l in radians in (-pi, pi] (IUPAC sign), ``(..., n_atoms, 3) -> (...)``."""
    i, j, k, m = (x[..., a, :] for a in atoms)
    b1, b2, b3 = j - i, k - j, m - k
    n1, n2 = torch.linalg.cross(b1, b2), torch.linalg.cross(b2, b3)
    sin = (b1 * n2).sum(-1) * b2.norm(dim=-1)
    return torch.atan2(sin, (n1 * n2).sum(-1))


def radius_of_gyration(x: Tensor) -> Tensor:
    """Root mean square distance from the unweighted centroid in nm, ``(..., n_atoms, 3) -> (...)``."""
    return (squared_norm(remove_centroid(x)) / x.shape[-2]).sqrt()


def rmsd(x: Tensor, reference: Tensor) -> Tensor:
    """Smallest root mean square distance to ``reference`` in nm over rotations and translations.

    ``(..., n, 3)`` and ``(n, 3) -> (...)``; atoms weigh the same. The rotation is that of Kabsch, Acta
    Cryst. A 32, 922 (1976), never a reflection. NaN where a configuration is not finite.
    """
    x, reference = remove_centroid(x), remove_centroid(reference)
    covariance = x.transpose(-1, -2) @ reference
    finite = covariance.isfinite().all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    # The best rotation has no first-order part in the gradient, and that of an SVD may be singular.
    u, _, v = torch.linalg.svd(torch.where(finite, covariance, 0.0).detach())
    proper = torch.ones_like(x[..., 0, :])
    proper[..., 2] = torch.linalg.det(u @ v).sign()
    rotated = x @ (u * proper[..., None, :]) @ v
    return (squared_norm(rotated - reference) / x.shape[-2]).sqrt()


def averaged_over(keys: Tensor, values: Tensor) -> Tensor:
    """Replace every value by the mean of those with the same key; any shape."""
    flat = keys.flatten()
    sums = values.new_zeros(int(flat.max()) + 1).index_add_(0, flat, values.flatten())
    return (sums / torch.bincount(flat).clamp_min(1))[flat].view_as(values)
