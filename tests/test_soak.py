"""A short soak.py: one kill at each kind of moment."""

from soak import MOMENTS, Soak, differences


def test_killed_at_every_kind_of_moment_nothing_differs(tmp_path):
    said = []
    soak = Soak(tmp_path, seed=1, say=said.append)
    assert len(soak.science['train']) > 100 and len(soak.science['sample']) > 256
    for verb, moment in MOMENTS:
        soak.kill(verb, moment)
    assert soak.finish() == [], said
    assert len(soak.kills) >= 6, said
    # The comparison sees a single changed byte.
    train = soak.science['train']
    name = next(name for name in train if 'params' in name)
    changed = train | {name: bytes([train[name][0] ^ 1]) + train[name][1:]}
    assert differences(train, changed) == [name]
