"""Feed mutated network files to the importer: each is read, or refused cleanly; no code ever runs.

    PYTHONPATH=. python tests/fuzz_importer.py --inputs=100000 --seed=0

For every hundred files there is the header of an exported network with other facts in it. Prints
the number of inputs, what became of them, the time and the peak of memory.
"""

import argparse
import collections
import functools
import itertools
import json
import pickletools
import random
import resource
import struct
import sys
import time

import numpy as np
import published_files as pf
import tiny

from autoguide_jax import files
from autoguide_jax.importers import conversion, edm2, module_tree, program
from autoguide_jax.inert import pickles

LABEL = 'input.pkl'
# What Python tells auditors when something is imported, compiled, run, opened or unpickled.
HARMLESS = {'builtins.id', 'object.__getattr__'}
EVENTS = []
GLOBALS = [
    *(('os', 'system'), ('builtins', 'eval'), ('builtins', 'exec'), ('posix', 'system')),
    *(('torch', 'HalfStorage'), ('torch', 'load'), ('numpy', 'ndarray'), ('numpy', 'dtype')),
    *(('collections', 'OrderedDict'), pf.EASY_DICT, pf.PERSISTENT, pf.LOAD),
    *(('torch._utils', '_rebuild_tensor_v2'), ('torch._utils', '_rebuild_parameter')),
    *(('torch.nn.modules.container', 'Sequential'), ('numpy.core.multiarray', '_reconstruct')),
]
HUGE = (2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
OPCODES = [op.code.encode('latin1') for op in pickletools.opcodes]


class Audit:
    """Collects audit events within `with`; hooks cannot be taken away again, so there is one."""

    active = installed = False

    def __enter__(self):
        if not Audit.installed:
            sys.addaudithook(Audit.hear)
            Audit.installed = True
        EVENTS.clear()
        Audit.active = True
        return EVENTS

    def __exit__(self, *error):
        Audit.active = False

    @staticmethod
    def hear(event, arguments):
        if Audit.active and event not in HARMLESS:
            EVENTS.append(event)


def small_state(**changes):
    """A tiny network's weights under published names, float16."""
    denoiser = tiny.denoiser(**changes)
    state = edm2.to_state_dict(denoiser, tiny.variables(denoiser))
    return {name: value.astype(np.float16) for name, value in state.items()}


INIT = {'img_resolution': 4, 'img_channels': 2, 'use_fp16': True, 'channels_per_head': 8}


def fixtures():
    """Files of every variant, small: a whole network, parts of one, encoders, the 2-D example."""
    state = small_state()
    part = dict(itertools.islice(state.items(), 4))
    init = {**INIT, 'label_dim': 3, 'dropout': 0.1}
    rng = np.random.default_rng(0)
    toy = {'gain': np.float32(0.5), 'layers.0.weight': np.float32(rng.normal(size=(4, 4)))}
    toy |= {f'layers.{i}.weight': np.float32(rng.normal(size=(4, 4))) for i in (2, 4)}
    return [
        pf.network_file(state, init),
        pf.network_file(part, init, source='import os\n' * 40),
        pf.network_file(part, init, pf.vae_encoder()),
        pf.network_file(part, init, pf.vae_encoder('numpy._core.multiarray')),
        pf.toy_file(toy, {'num_layers': 2, 'hidden_dim': 4}),
        pf.dump(pf.parameter(state['unet.out_gain'])),
        pf.stream(np.arange(3, dtype=np.float16)),
    ]


def boundaries(data):
    """Where opcodes begin, as far as the data is a pickle."""
    found = []
    try:
        found += (at for _, _, at in pickletools.genops(data))
    except Exception:  # noqa: BLE001 genops raises all kinds
        found.append(len(data))
    return found or [0]


def insertion(choose):
    """Opcodes that a hostile file may hold."""
    kind = choose(6)
    if kind == 0:
        return OPCODES[choose(len(OPCODES))]
    if kind == 1:
        return pf.Writer(4)(pf.Global(*GLOBALS[choose(len(GLOBALS))]))
    if kind == 2:
        module, name = GLOBALS[choose(len(GLOBALS))]
        return f'c{module}\n{name}\n'.encode() + [b')R', b')\x81', b'}b', b'K\x01\x85R'][choose(4)]
    if kind == 3:
        return [b'X', b'B', b'T', b'\x8b'][choose(4)] + struct.pack('<I', HUGE[choose(2)])
    if kind == 4:
        code = [b'\x8d', b'\x8e', b'\x95', b'\x96'][choose(4)]
        return code + struct.pack('<Q', HUGE[choose(len(HUGE))])
    return bytes(choose(256) for _ in range(1 + choose(8)))


def mutate(data, others, choose):
    """One mutation of a file; choose(n) gives a number below n."""
    at = choose(len(data) + 1)
    kind = choose(9)
    if kind == 0 and data:
        at = choose(len(data))
        return data[:at] + bytes([data[at] ^ (1 << choose(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[at + 1 + choose(64) :]
    if kind == 3:
        other = others[choose(len(others))]
        start = choose(len(other) + 1)
        return data[:at] + other[start : start + choose(400)] + data[at:]
    if kind == 4:
        return data + bytes(1 + choose(16))
    if kind == 5:
        width = (1, 2, 4, 8)[choose(4)]
        lie = (HUGE[choose(len(HUGE))] & (256**width - 1)).to_bytes(width, 'little')
        return data[:at] + lie + data[at + width :]
    places = boundaries(data)
    at = places[choose(len(places))]
    if kind == 6:
        return data[:at] + insertion(choose) + data[at:]
    end = places[min(len(places) - 1, places.index(at) + 1 + choose(3))]
    if kind == 7:
        return data[:end] + data[at:end] * (1 + choose(3)) + data[end:]
    return data[:at] + insertion(choose) + data[end:]


def unframed(data):
    """The file without its frame, whose length any insertion would belie."""
    return data[:2] + data[11:] if data[2:3] == b'\x95' else data


def outcome(data, known=None):
    """'read', 'network' or 'refused: …'; whatever else happens is an error of the importer.

    known: shapes and settings that were converted before, which costs most.
    """
    with Audit() as events:
        try:
            state, facts = module_tree.state_of(pickles.interpret(memoryview(data), LABEL))
        except ValueError as error:
            assert not events, f'a refused file caused {events}'
            return 'refused: ' + kind_of(str(error))
    assert not events, f'a file that was read caused {events}'
    shapes = tuple((name, array.shape, str(array.dtype)) for name, array in state.items())
    key = (shapes, repr(facts))
    if known is not None and key in known:
        return known[key]
    try:
        settings = program.Settings(src=(LABEL,), latents='pixels')
        conversion.convert(state, facts, settings)
        found = 'a network'
    except ValueError:
        found = 'read, but no network'
    if known is not None:
        known[key] = found
    return found


SECTIONS = ('init', 'latents')
NESTED = functools.reduce(lambda value, _: [value], range(300), 1)
VALUES = [
    *(None, True, -1, 0, 1, 1.5, 0.5, 8, 64, 8.0, 10**30, 1e30, float('inf'), float('nan')),
    *('', 'x', '8', 'pixels', [], [1], ['a'], [[1]], {}, {'name': 'evil'}, {'name': ['a']}),
    *({'name': 'points'}, {'name': 'pixels'}, {'name': 'sd_vae'}, {'class': ['a']}, NESTED),
    *({'name': 'sd_vae', 'scale': s, 'bias': [0, 1]} for s in ([1, 2], ['a', 1], [0, 1], [-1, 1])),
]
KEYS = [*conversion.FACTS, *edm2.SEEN, *edm2.TOLD, 'block_kwargs', 'encoder', 'class', 'name', 'x']


def header(choose):
    """The facts of an exported network with a few of them changed, JSON."""
    facts = {'init': dict(INIT), 'latents': {'name': 'pixels'}, 'nimg': 2**20, 'std': 0.1}
    for _ in range(1 + choose(3)):
        place = facts.get(SECTIONS[choose(2)]) if choose(2) else facts
        if isinstance(place, dict):
            key = [*place, *KEYS][choose(len(place) + len(KEYS))]
            place[key] = VALUES[choose(len(VALUES))]
            if not choose(6):
                del place[key]
    return json.dumps(facts)


def header_outcome(text, state):
    """'a header' or 'a refused header'; as `outcome`, which see."""
    settings = program.Settings(src=(LABEL,))
    try:
        facts = conversion.facts_of(text)
        source = program.settled(program.Source(LABEL, 'run', 1), facts)
        found = conversion.convert(state, facts, settings)
    except ValueError:
        return 'a refused header'
    assert type(source.nimg) is int and 0 < source.nimg < 2**63 and 0 < source.std < 0.3
    assert 0 < found.denoiser['sigma_data'] < 2**63 and found.latents['name'] in program.LATENTS
    json.dumps(files.plain([found.facts, found.network, found.latents]), allow_nan=False)
    return 'a header'


def kind_of(text):
    """The reason of a refusal without its numbers and names."""
    for part in ('truncated', 'no place', 'after the end', 'needs a', 'on the stack', 'of a'):
        if part in text:
            return part
    return 'other'


def run(inputs, seed):
    """Run the inputs; returns the Counter of outcomes and the slowest one's seconds."""
    rng, whole = random.Random(seed), fixtures()
    given = [framed for data in whole for framed in (data, unframed(data))]
    counts, known, slowest = collections.Counter(), {}, 0.0
    state = small_state()
    for number in range(inputs // 100):
        text = header(rng.randrange)
        try:
            counts[header_outcome(text, state)] += 1
        except Exception as error:
            raise RuntimeError(f'header {number} of seed {seed}: {text:.500}') from error
    for number in range(inputs):
        # The first, a whole network, costs most.
        data = given[max(rng.randrange(len(given)), rng.randrange(len(given)))]
        for _ in range(1 + rng.randrange(3)):
            data = mutate(data, given, rng.randrange)
        start = time.monotonic()
        try:
            counts[outcome(data, known)] += 1
        except Exception as error:
            raise RuntimeError(f'input {number} of seed {seed}') from error
        slowest = max(slowest, time.monotonic() - start)
        if number % 10_000 == 9_999:
            print(f'{number + 1:,} inputs', file=sys.stderr, flush=True)
    return counts, slowest


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--inputs', type=int, default=100_000)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    run(20, options.seed)
    before, start = peak(), time.monotonic()
    counts, slowest = run(options.inputs, options.seed)
    print(f'{options.inputs:,} inputs in {time.monotonic() - start:.0f} s, seed {options.seed}')
    print(f'slowest {slowest:.2f} s; memory {peak():.0f} MiB at the peak, {before:.0f} before')
    for name, count in counts.most_common():
        print(f'{count:>9,}  {name}')
    print('errors other than the clean one: 0; audit events (import, exec, open …): 0')


if __name__ == '__main__':
    main()
