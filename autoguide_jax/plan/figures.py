"""The figures of a plan as rows {figure, value, unit, from}: what each is, and who says so.

`from` is analytic (follows from shapes), compiler (what XLA for TPU reports), hlo (counted in the
program that it made), estimate, or published (the chip's data sheet).
"""

import math

from autoguide_jax.plan import advice, analytic

GB = 1e9
BOUNDS = ('compute', 'network')  # the terms of a roofline that no program goes below
SLACK = 0.98  # of the HBM: a TPU keeps some for itself (v5e offers 15.75 of its 16 GiB)


def row(figure, value, unit, source):
    """One row; numbers are rounded to four digits for reading, JSON has the same."""
    if isinstance(value, float):
        value = float(f'{value:.4g}') if math.isfinite(value) else None
    return {'figure': figure, 'value': value, 'unit': unit, 'from': source}


def option_of(run, topology):
    """Where a run stands: advice.Option on this slice."""
    loop = run.settings.train
    images = (loop.microbatch_size or loop.batch_size) // topology.chips
    remat = run.tree['network'].get('remat', 'none')
    remat = {True: 'block', False: 'none'}.get(remat, remat)
    return advice.Option(run.shards(topology), remat, images)


def model_of(run, topology):
    """advice.Model of a run on this slice: arguments and activations, from shapes alone."""
    counts = {run.shards(topology), 1, topology.chips}
    counts |= {n for n in (4, 16, 64) if topology.chips % n == 0}
    batch = analytic.tree_bytes(run.batch) / topology.chips
    held = {n: analytic.shard_bytes(run.state, n) + batch for n in sorted(counts)}
    gradient = {n: analytic.shard_bytes(run.state['params'], n) for n in sorted(counts)}
    activations = {remat: float(run.activations(remat)) for remat in run.remats()}
    return advice.Model(held, activations, gradient)


def network_rows(run):
    """Parameters and FLOPs of one network."""
    forward = run.forward_flops
    return [
        row('parameters', run.params / 1e6, 'million', 'analytic'),
        row('forward pass, products', forward / 2e9, 'GMAC per image', 'analytic'),
        row('training, products', 3 * forward / 1e12, 'TFLOP per image', 'analytic'),
    ]


def memory_rows(run, topology, model):
    """HBM of one chip from shapes alone, with and without FSDP and rematerialisation."""
    now = option_of(run, topology)
    rows = []
    for shards, held in model.arguments.items():
        whole = 100 * analytic.whole_share(run.state, shards) if shards > 1 else 100.0
        name = 'replicated' if shards == 1 else f'FSDP, {shards} shards, {whole:.0f} % stay whole'
        mark = ' (as set)' if shards == now.shards else ''
        rows.append(row(f'arguments, {name}{mark}', held / GB, 'GB per chip', 'analytic'))
    for remat, each in model.activations.items():
        mark = ' (as set)' if remat == now.remat else ''
        name = f'activations kept, remat {remat}, {now.images} images at a time{mark}'
        rows.append(row(name, each * now.images / GB, 'GB per chip', 'analytic'))
    return rows


def compiled_rows(found, per_chip, arguments):
    """What the compiler found about a program.

    per_chip, arguments: FLOPs and bytes of the arguments of one chip, counted by hand.
    """
    if not found['fits']:
        source = 'compiler' if found['counted'] == 'all' else 'compiler, analytic'
        need = needed(found, arguments)
        return [
            row('HBM needed: does not fit', need / GB, 'GB per chip', source),
            row('HBM available', found['available'] / GB, 'GB per chip', 'compiler'),
        ]
    memory, cost, traffic = found['memory'], found['cost'], found['traffic']
    rows = [
        row(name, memory[name] / GB, 'GB per chip', 'compiler')
        for name in ('arguments', 'outputs', 'aliased', 'temporaries', 'peak')
    ]
    need = needed(found, arguments)
    rows.append(row('HBM in use, as the runtime takes it', need / GB, 'GB per chip', 'compiler'))
    rows.append(row('executed FLOPs', per_chip / 1e12, 'TFLOP per chip', 'analytic'))
    if cost['flops']:
        rows.append(
            row('executed FLOPs, cost_analysis', cost['flops'] / 1e12, 'TFLOP per chip', 'compiler')
        )
        share = cost['flops'] / per_chip
        rows.append(row('… of the analytic count (loops count once there)', share, '', 'compiler'))
    rows.append(row('HBM traffic, at most', traffic['bytes'] / GB, 'GB per chip', 'hlo'))
    rows.append(row('… of it copies and transposes', traffic['copies'] / GB, 'GB per chip', 'hlo'))
    if traffic['unknown_loops']:
        what = 'loops of unknown length, counted once'
        rows.append(row(what, traffic['unknown_loops'], '', 'hlo'))
    for one in found['collectives']:
        name = f'{one["kind"]} among {one["group"]}, {one["count"]} ×'
        rows.append(row(name, one['bytes'] / GB, 'GB per chip', 'hlo'))
    rows.append(row('compile time', found['seconds'], 's', 'compiler'))
    return rows


def needed(found, arguments):
    """Bytes of HBM that a program needs on one device, whether the compiler says that it fits.

    Donated outputs share their arguments. arguments: their bytes, counted by hand, for a refusal
    that tells of temporaries alone.
    """
    if not found['fits']:
        return found['needed'] + (0 if found['counted'] == 'all' else arguments)
    memory = found['memory']
    held = memory['arguments'] + memory['outputs'] - memory['aliased']
    return held + memory['temporaries'] + memory['code']


def roofline(chip, flops, found):
    """Seconds of one chip, {'compute', 'memory', 'network', 'bound'}; it cannot go below bound.

    flops: executed by one chip. Without what a compiler found only the first is known. The terms
    overlap, so the bound is the longest of them, but for memory: the traffic that it is made of is
    an upper bound (hlo.traffic).
    """
    terms = {'compute': flops / chip.flops}
    if found and found['fits']:
        terms['memory'] = found['traffic']['bytes'] / chip.bandwidth
        wire = sum(one['wire_bytes'] for one in found['collectives'])
        terms['network'] = wire / chip.interconnect
    return {**terms, 'bound': max(terms[name] for name in BOUNDS if name in terms)}


def roofline_rows(terms, useful, chip, what):
    """Seconds of a program by its roofline, and the MFU that it implies; useful: FLOPs per chip."""
    source = 'published' if len(terms) == 2 else 'hlo, published'
    rows = [
        row(f'{what}: {name}', 1e3 * seconds, 'ms', source)
        for name, seconds in terms.items()
        if name in BOUNDS
    ]
    if 'memory' in terms:
        rows.append(row(f'{what}: memory, at most', 1e3 * terms['memory'], 'ms', source))
    longest = max((name for name in BOUNDS if name in terms), key=terms.get)
    rows.append(row(f'{what} at least ({longest})', 1e3 * terms['bound'], 'ms', source))
    rows.append(row('MFU at most', 100 * useful / chip.flops / terms['bound'], '%', source))
    return rows


def file_rows(run, topology, model):
    """Host memory and bytes at a checkpoint, and what snapshots take in the end."""
    loop, stds = run.settings.train, len(run.settings.ema.stds)
    state = analytic.tree_bytes(run.state)
    shards = run.shards(topology)
    # One copy is saved: a host sends what its own devices hold of it, and never more than all.
    own = min(topology.per_host, shards)
    host = min(state, own * analytic.shard_bytes(run.state, shards))
    snapshot = analytic.tree_bytes(run.variables)
    count = len(loop.snapshots())
    return [
        row('one checkpoint (two are kept)', state / GB, 'GB', 'analytic'),
        row('host memory at a checkpoint', host / GB, 'GB per host', 'analytic'),
        row('one EMA of a snapshot, fetched tensor by tensor', snapshot / GB, 'GB', 'analytic'),
        row(f'snapshots: {count} × {stds} EMAs', count * stds * snapshot / GB, 'GB', 'analytic'),
    ]


def run_rows(run, topology, seconds, price):
    """Hours, chip-hours and price of the whole run at its roofline."""
    steps = run.settings.train.total_nimg / run.settings.train.batch_size
    hours = steps * seconds / 3600
    rows = [
        row('steps', int(steps), '', 'analytic'),
        row('hours of the run at least', hours, 'h', 'roofline'),
        row('chip-hours at least', hours * topology.chips, 'h', 'roofline'),
    ]
    if price:
        cost = hours * topology.chips * price
        rows.append(row(f'price at least, at {price:g} per chip-hour', cost, '', 'roofline'))
    return rows


def calibrated(model, now, found):
    """The memory model with what the compiler found, whether the program fits or not."""
    arguments = model.arguments[now.shards]
    return model.calibrated(now, max(needed(found, arguments) - arguments, 0.0))
