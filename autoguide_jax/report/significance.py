"""Which differences stay significant when all that are shown are tested at once.

(1) p of a difference over n blocks of seeds: two-sided paired t test (Student 1908),
    t = mean / (sd/√n), p = 2·P(T > |t|) with n − 1 degrees of freedom. It takes the differences of
    the blocks to be independent and about normal; a block is a mean over many images.
(2) Holm (1979): of m p-values in order p₁ ≤ p₂ ≤ …, the i-th becomes max over j ≤ i of
    min(1, (m − j + 1)·p_j). Below 0.05 after that, all of them together name a true zero with a
    chance of at most 5 %, whatever depends on what.
"""

import math
from collections.abc import Hashable, Mapping

from scipy import special

from autoguide_jax.report.stats import Stat

LEVEL = 0.05


def p_value(stat: Stat) -> float | None:
    """Return p of a Stat of differences by (1), None for one block, or a spread of 0 around ≠ 0."""
    if stat.n < 2:
        return None
    if not stat.sd:
        return None if stat.mean else 1.0
    t = abs(stat.mean) / (stat.sd / math.sqrt(stat.n))
    return float(2 * special.stdtr(stat.n - 1, -t))


def holm(found: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """Return name → p-value corrected by (2). Errors: ValueError for one outside 0…1."""
    if bad := [p for p in found.values() if not 0 <= p <= 1]:
        raise ValueError(f'p-values are 0…1, not {bad[0]}')
    corrected, most = {}, 0.0
    for i, name in enumerate(sorted(found, key=found.get)):
        most = max(most, min(1.0, (len(found) - i) * found[name]))
        corrected[name] = most
    return corrected


def family(columns) -> tuple[dict, dict]:
    """Return (comparison → p, comparison → corrected p) of the comparisons of a table.

    columns: [(metric, {arm: other}, {arm: Stat or None})]. A comparison is (metric, {arm, other}):
    one that stands in two columns is one of the family.
    """
    found = {}
    for key, others, stats in columns:
        for arm, stat in stats.items():
            if stat is not None and (p := p_value(stat)) is not None:
                found[comparison(key, arm, others[arm])] = p
    return found, holm(found)


def comparison(key: str, arm: str, other: str) -> tuple:
    """Return the name of a comparison in a family, the same whichever arm comes first."""
    return key, frozenset((arm, other))
