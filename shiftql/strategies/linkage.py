"""Average linkage over pairs of clusters that may be near, many merges at a time.

Sumengen et al., Scaling Hierarchical Agglomerative Clustering to Billion-sized Datasets, arXiv 2105.11653.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shiftql.strategies.distances import pair_distances

if TYPE_CHECKING:
    import numpy as np

# In place of infinity, which averages cannot carry: beyond any threshold however it is averaged.
FAR = 1e9
# Clusters with more pairs of members than this are measured by so many of them.
_SAMPLE = 64
# They are measured again once less than this share of their pairs is what was measured.
_MEASURED = 0.9
# Where fewer clusters than this share of those that have a near one are its nearest too, one may take several at once,
_MUTUAL = 0.1
# as long as none is farther from it than its nearest is by this share of the threshold.
_TOLERANCE = 0.02
# Pairs of clusters measured at a time, so that memory stays small.
_BLOCK = 1 << 13


def merge(
    profiles: np.ndarray, labels: np.ndarray, pairs: np.ndarray, threshold: float, random: np.random.Generator
) -> np.ndarray:
    """The labels (models,), 0, 1, …, once no two clusters are `threshold` or less apart on average, as far as seen.

    `labels` are those of the clusters to begin with, `pairs` (pairs, 2) those of clusters that may be near. Any that
    are each other's nearest become one, all at a time. How far it is from others follows from what was measured of its
    parts, and is measured where it does not. This is average linkage if all that are near are among the pairs, but for
    the shortcuts that the constants above allow where clusters have many members.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    sampler = _Sampler(profiles, labels, random)
    links = sampler.links(*pairs.T)
    while (merged := _merged(links, len(sampler.sizes), threshold)).any():
        count = len(sampler.sizes)
        graph = coo_array((np.ones(merged.sum()), (links.low[merged], links.high[merged])), shape=(count, count))
        # The numbers are of 32 bits, and their products would overflow.
        new = connected_components(graph, directed=False)[1].astype(np.int64)
        labels = new[labels]
        sampler = _Sampler(profiles, labels, random)
        links = _after(links, new, sampler, threshold)
    return labels


@dataclass(frozen=True)
class _Links:
    """Pairs of clusters, `low` < `high`, how far `apart` they are, and of how many pairs of members that is known."""

    low: np.ndarray
    high: np.ndarray
    apart: np.ndarray
    known: np.ndarray


def _merged(links: _Links, count: int, threshold: float) -> np.ndarray:
    """Which links are between clusters, of `count`, that become one now."""
    import numpy as np

    order = np.argsort(links.apart, kind="stable")
    # The link of each cluster to its nearest: of what is written twice, the last stays, and so the least.
    nearest = np.full(count, -1)
    nearest[np.stack([links.low[order], links.high[order]], axis=1).ravel()[::-1]] = np.repeat(order, 2)[::-1]
    numbers, within = np.arange(len(order)), links.apart <= threshold
    of_low, of_high = nearest[links.low] == numbers, nearest[links.high] == numbers
    mutual = within & of_low & of_high
    if mutual.sum() >= _MUTUAL * (within & (of_low | of_high)).sum():
        return mutual
    least = np.minimum(links.apart[nearest[links.low]], links.apart[nearest[links.high]])
    return within & (of_low | of_high) & (links.apart <= least + _TOLERANCE * threshold)


def _after(links: _Links, new: np.ndarray, sampler: _Sampler, threshold: float) -> _Links:
    """The links of the clusters whose numbers are now `new`, without those that cannot be near."""
    import numpy as np

    total = len(sampler.sizes)
    low, high = new[links.low], new[links.high]
    kept = low != high
    codes, groups = np.unique(np.minimum(low, high)[kept] * total + np.maximum(low, high)[kept], return_inverse=True)
    low, high = np.divmod(codes, total)
    known = np.bincount(groups, links.known[kept], len(codes))
    sums = np.bincount(groups, (links.known * links.apart)[kept], len(codes))
    every = sampler.sizes[low] * sampler.sizes[high]
    needed = np.where(every > _SAMPLE, _MEASURED * every, every)
    # The pairs that are not known add to the sum, if anything.
    possible = (known >= needed) | (sums <= threshold * every)
    unknown = (known < needed) & possible
    apart = sums / known
    fresh = sampler.links(low[unknown], high[unknown])
    apart[unknown], known[unknown] = fresh.apart, fresh.known
    return _Links(low[possible], high[possible], apart[possible], known[possible])


class _Sampler:
    """Measures how far clusters are apart on average, by all pairs of their members or by some drawn evenly."""

    def __init__(self, profiles: np.ndarray, labels: np.ndarray, random: np.random.Generator) -> None:
        import numpy as np

        self._profiles = profiles
        self._random = random
        self._members = np.argsort(labels, kind="stable")
        self.sizes = np.bincount(labels)
        self._starts = np.cumsum(self.sizes) - self.sizes

    def links(self, low: np.ndarray, high: np.ndarray) -> _Links:
        import numpy as np

        blocks = [slice(start, start + _BLOCK) for start in range(0, len(low), _BLOCK)]
        apart = np.concatenate([np.empty(0), *(self._apart(low[block], high[block]) for block in blocks)])
        return _Links(low, high, apart, self.sizes[low] * self.sizes[high])

    def _apart(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        import numpy as np

        every = self.sizes[low] * self.sizes[high]
        drawn = np.minimum(every, _SAMPLE)
        pair = np.repeat(np.arange(len(low)), drawn)
        place = np.arange(len(pair)) - np.repeat(np.cumsum(drawn) - drawn, drawn)
        some = (every > _SAMPLE)[pair]
        place[some] = (place[some] + self._random.random(some.sum())) * (every / drawn)[pair[some]]
        one, other = np.divmod(place, self.sizes[high][pair])
        ones, others = self._members[self._starts[low][pair] + one], self._members[self._starts[high][pair] + other]
        apart = np.minimum(pair_distances(self._profiles, ones, others), FAR)
        return np.bincount(pair, apart, len(low)) / drawn
