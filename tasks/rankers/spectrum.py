"""Sums over the rows of a class, and the spectrum of features: what the closed-form estimators are made of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Rows that are in double precision at a time.
_BLOCK_ROWS = 4096
_ROUNDING = 32 * np.finfo(np.float64).eps


def rows_of_classes(y: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """The indices of the rows of each class, in the order of the rows."""
    order = np.argsort(y, kind="stable")
    return np.split(order, np.cumsum(np.bincount(y, minlength=num_classes))[:-1])


def target_products(x: np.ndarray, y: np.ndarray, num_classes: int) -> np.ndarray:
    """xᵀY in double precision, (dimensions, targets).

    The columns of Y are the indicators of the classes where `y` is (rows,) integers, and else those of `y`.
    """
    if y.ndim == 1 and y.dtype.kind != "f":
        return np.stack([x[rows].sum(axis=0, dtype=np.float64) for rows in rows_of_classes(y, num_classes)], axis=1)
    targets = y.reshape(len(y), -1)
    return sum(block.T @ targets[start : start + len(block)] for start, block in _blocks(x, 0.0))


def mean_of(x: np.ndarray) -> np.ndarray:
    """The mean of each column, in double precision."""
    return sum(block.sum(axis=0) for _, block in _blocks(x, 0.0)) / len(x)


def gram(x: np.ndarray, centre: np.ndarray | float = 0.0) -> np.ndarray:
    """The smaller of the two matrices of inner products of x − centre, of its columns or of its rows, in doubles."""
    if len(x) < x.shape[1]:
        centred = x - np.asarray(centre, dtype=np.float64)
        return centred @ centred.T
    return sum(block.T @ block for _, block in _blocks(x, centre))


def spectrum(
    x: np.ndarray, y: np.ndarray, num_classes: int, centre: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The squared singular values of x − centre that are not 0, and (uᵀY)² for its left singular vectors u.

    Shapes (rank,) and (rank, targets); for Y see `target_products`. A direction in which the rows spread less than
    10⁻⁷ of the widest counts as none: the products of float32 features tell no more. Takes time in proportion to
    rows × dimensions × the smaller of both, and memory for a few matrices of the smaller.
    """
    eigenvalues, vectors = np.linalg.eigh(gram(x, centre))
    # What is left of equal rows when their mean, itself rounded, is taken off.
    rounding = len(x) * np.sum((_ROUNDING * np.asarray(centre)) ** 2 * np.ones(x.shape[1]))
    kept = eigenvalues > max(max(x.shape) * np.finfo(np.float64).eps * eigenvalues[-1], rounding)
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    if len(x) < x.shape[1]:
        return eigenvalues, target_products(vectors, y, num_classes) ** 2
    # From the rows themselves: the products of which the vectors come have lost the narrow directions' last digits.
    squares = np.zeros(len(eigenvalues))
    products: np.ndarray | float = 0.0
    for start, block in _blocks(x, centre):
        along = block @ vectors
        squares += np.einsum("nr,nr->r", along, along)
        products += target_products(along, y[start : start + len(block)], num_classes)
    return squares, products**2 / squares[:, None]


def _blocks(x: np.ndarray, centre: np.ndarray | float) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(x), _BLOCK_ROWS):
        yield start, x[start : start + _BLOCK_ROWS] - np.asarray(centre, dtype=np.float64)
