"""The order of the arms in tables and figures."""


def ordered(arms, order):
    """The arms (name → settings) in this order, or alphabetically. Errors: ValueError."""
    order = order or sorted(arms)
    if sorted(order) != sorted(arms):
        raise ValueError(f'order ({order}) must name every arm once: {sorted(arms)}')
    return {name: arms[name] for name in order}
