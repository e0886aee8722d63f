"""What the reference implementation of the paper's 2-D example scores by the same metrics.

Its own networks, trained by its own code (training seed 0), 65536 points per set: measured once
for this project, in the table 'What the reference's code gives' of its notes on this example.
"""

LABEL = 'reference implementation, its own training, seed 0, 65536 points'
COLUMNS = ('outliers_0.1', 'outliers_1', 'far', 'clipped', 'coverage', 'kl', 'empty')
COLUMNS += ('sliced_w1', 'energy')
_VALUES = {
    'exact': (0.0011, 0.0091, 0.0000, 1.367, 1.000, 0.0013, 0, 0.0024, 0.00004),
    'none': (0.0709, 0.1036, 0.0173, 0.396, 0.985, 0.0185, 0, 0.0037, 0.00012),
    'guide_alone': (0.2077, 0.2517, 0.0976, -1.961, 0.926, 0.0717, 0, 0.0151, 0.00080),
    'autoguidance_2': (0.0452, 0.0701, 0.0121, 0.807, 0.868, 0.1454, 1, 0.0174, 0.00107),
    'autoguidance_3': (0.0443, 0.0629, 0.0164, 0.834, 0.783, 0.3952, 8, 0.0342, 0.00346),
    'autoguidance_4': (0.0595, 0.0840, 0.0246, 0.629, 0.599, 0.6838, 21, 0.0629, 0.00686),
    'cfg_2': (0.0545, 0.0799, 0.0130, 0.575, 0.585, 0.5657, 19, 0.1074, 0.04192),
    'cfg_4': (0.1029, 0.1251, 0.0412, -0.674, 0.285, 3.3954, 42, 0.2682, 0.27538),
}
SCORES = {arm: dict(zip(COLUMNS, values)) for arm, values in _VALUES.items()}
