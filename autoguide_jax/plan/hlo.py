"""What a compiled program moves, read from its HLO text: collectives, and traffic to memory.

A computation counts as often as it runs: the body of a while loop by the trip count that the
compiler found. Bytes are those of one device.
"""

import collections
import math
import re

BYTES = {
    'pred': 1, 's8': 1, 'u8': 1, 's16': 2, 'u16': 2, 'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4,
    'f32': 4, 's64': 8, 'u64': 8, 'f64': 8, 'c64': 8,
}  # fmt: skip
KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')
SHAPE = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\](\{[^}]*\})?')
NAME = re.compile(r'%?([\w.-]+) \(.*\) -> .* \{')
INSTRUCTION = re.compile(r'\s+(?:ROOT )?%?([\w.-]+) = (.*)')
OPCODE = re.compile(r'([a-z][\w-]*)\(')
CALLS = re.compile(
    r'(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)'
)
BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
CONSTANT = re.compile(r'constant\((\d+)\)')
CHAIN = re.compile(r'chain_id="(\d+)"')
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
# What only names or rearranges buffers moves nothing by itself.
FREE = {'parameter', 'tuple', 'get-tuple-element', 'bitcast', 'constant', 'while', 'conditional'}
FREE |= {'call', 'async-done', 'after-all', 'partition-id', 'replica-id', 'iota'}


def shape_bytes(text, memory=None):
    """Bytes of all arrays in a shape such as '(f32[8,128]{1,0}, s32[])'.

    memory: only those in this memory space; 0 is HBM, S(1) on a TPU the vector memory of the core.
    """
    total = 0
    for kind, dimensions, layout in SHAPE.findall(text):
        space = re.search(r'S\((\d+)\)', layout)
        if kind in BYTES and (memory is None or int(space[1] if space else 0) == memory):
            total += BYTES[kind] * math.prod(int(d) for d in dimensions.split(',') if d)
    return total


def computations(text):
    """{name: [(instruction, shape, opcode, rest of its line)]} and the name of the entry."""
    found, entry, current = {}, None, None
    for line in text.splitlines():
        if not line.startswith(' '):
            head = NAME.match(line.removeprefix('ENTRY '))
            if head:
                current = found.setdefault(head[1], [])
                entry = head[1] if line.startswith('ENTRY') else entry
            continue
        parts = INSTRUCTION.match(line)
        if parts and current is not None:
            # The shape may be a tuple with layouts in it, T(8,128) among them, so the opcode is
            # the first word before a bracket after the shape's end.
            shape, rest = split_shape(parts[2])
            opcode = OPCODE.match(rest)
            if opcode:
                current.append((parts[1], shape, opcode[1], rest))
    return found, entry


def split_shape(text):
    """('f32[2]{0:T(8)}', 'add(…)') of an instruction's right side; tuples are in brackets."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter in '([{') - (letter in ')]}')
        if letter == ' ' and depth == 0:
            return text[:i], text[i + 1 :]
    return text, ''


def visits(text):
    """Yield (times, fusion, name, shape, opcode, rest, shapes by name) of all that runs.

    fusion: the computation of the fusion that an instruction is in, '' outside of fusions.
    """
    found, entry = computations(text)

    def walk(name, times, fusion):
        shapes = {instruction: shape for instruction, shape, _, _ in found.get(name, ())}
        for instruction, shape, opcode, rest in found.get(name, ()):
            yield times, fusion, instruction, shape, opcode, rest, shapes
            inner = CALLS.findall(rest)
            for branches in BRANCHES.findall(rest):
                inner += [b.strip().lstrip('%') for b in branches.split(',')]
            loop = (trips(rest, found) or 1) if opcode == 'while' else 1
            for called in inner if opcode not in ('reduce', 'sort', 'scatter', 'map') else ():
                fused = called if fusion or opcode == 'fusion' else ''
                yield from walk(called, times * loop, fused)

    yield from walk(entry, 1, '')


def trips(rest, found):
    """How often a while loop runs; None where it does not tell.

    Either the compiler wrote it down, or the condition compares a counter, which JAX starts at 0,
    with a constant. rest: the loop's line after its shape; found: all computations.
    """
    known = TRIPS.search(rest)
    if known:
        return int(known[1])
    condition = re.search(r'condition=%?([\w.-]+)', rest)
    lines = found.get(condition[1], ()) if condition else ()
    constants = {name: CONSTANT.match(rest) for name, _, _, rest in lines}
    for _, _, opcode, rest in lines:
        if opcode == 'compare' and 'direction=LT' in rest:
            limits = [constants[n] for n in operands(rest) if constants.get(n)]
            return int(limits[0][1]) if limits else None
    return None


def collectives(text):
    """Rows {kind, group, count, bytes, wire_bytes} per device and call of the program, sorted.

    group: devices that take part together. bytes: of the whole tensor (of the gathered one, of the
    one before it is scattered). wire_bytes: what a ring sends through each device's link.
    """
    pieces = {}
    for times, fusion, _, _, opcode, rest, shapes in visits(text):
        kind = opcode.removesuffix('-start')
        if kind not in KINDS:
            continue
        given = sum(shape_bytes(shapes.get(name, '')) for name in operands(rest))
        given = given or shape_bytes(rest[: rest.find(')')])
        group = group_size(rest)
        whole = given * group if kind == 'all-gather' else given
        # So libtpu writes a reduce-scatter: an all-reduce of which a fusion keeps a slice.
        kind = 'reduce-scatter' if fusion.startswith('all-reduce-scatter') else kind
        # Fusions that start, go along with and end one asynchronous collective all repeat it under
        # one chain. Its channel alone would not tell: libtpu gives channel 1 to unlike ones.
        chain = CHAIN.search(rest)
        one = chain[1] if chain else len(pieces)
        pieces[one] = max(pieces.get(one, (0,)), (whole, times, kind, group))
    found = collections.defaultdict(lambda: [0, 0, 0.0])
    for whole, times, kind, group in pieces.values():
        ring = {'all-reduce': 2, 'collective-permute': group / max(group - 1, 1)}.get(kind, 1)
        row = found[kind, group]
        row[0] += times
        row[1] += times * whole
        row[2] += times * whole * ring * (group - 1) / max(group, 1)
    names = ('kind', 'group', 'count', 'bytes', 'wire_bytes')
    rows = [dict(zip(names, (*key, *row))) for key, row in found.items()]
    return sorted(rows, key=lambda row: -row['wire_bytes'])


def group_size(rest):
    """Devices in one group of a collective, from whichever way its replica_groups are written.

    {{0,1},{2,3}} · [groups,size]<=[…] · mesh['a'=4,'b'=2], … {'a'}, where 'a':(1)2 is a part of a.
    """
    short = re.search(r'replica_groups=\[(\d+),(\d+)\]', rest)
    if short:
        return int(short[2])
    long = re.search(r'replica_groups=\{\{([\d,]*)\}', rest)
    if long:
        return len(long[1].split(','))
    named = re.search(r"replica_groups=mesh\[([^\]]*)\].*? \{('[^}]*)\}", rest)
    if named:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    return 2 if 'source_target_pairs' in rest else 1


def traffic(text):
    """{'bytes', 'copies', 'unknown_loops'}: what one device reads from and writes to its HBM.

    Every instruction's result and operands count as far as they are in HBM; what is inside a fusion
    does not. A fusion that takes a slice of an operand counts all of it, so this is an upper bound;
    a loop of unknown length counts once. Prefetches into the core's own memory are no copies.
    """
    total, copies, unknown = 0, 0, 0
    found, _ = computations(text)
    for times, fusion, _, shape, opcode, rest, shapes in visits(text):
        unknown += opcode == 'while' and trips(rest, found) is None
        if fusion or opcode in FREE or opcode.endswith('-done'):
            continue
        given = [shapes.get(name, '') for name in operands(rest)]
        moved = shape_bytes(shape, 0) + sum(shape_bytes(each, 0) for each in given)
        if opcode.endswith('-start') and given:
            # (source, result, …): only as much as the result has is read, from wherever it is.
            result = elements(shape)[1] if shape.startswith('(') else shape
            moved = shape_bytes(result, 0) + shape_bytes(result) * (shape_bytes(given[0], 0) > 0)
        total += times * moved
        copies += times * moved * (opcode in ('copy', 'transpose'))
    return {'bytes': total, 'copies': copies, 'unknown_loops': unknown}


def operands(rest):
    """Names of the operands of an instruction, from what follows its shape."""
    return re.findall(r'%([\w.-]+)', rest[: rest.find(')')])


def elements(shape):
    """The shapes in a tuple's shape, as far as its brackets tell; at least two."""
    parts, depth, start = [], 0, 1
    for i, letter in enumerate(shape):
        depth += (letter in '([{') - (letter in ')]}')
        if (letter == ',' and depth == 1) or depth == 0:
            parts.append(shape[start:i].strip())
            start = i + 1
    return parts if len(parts) > 1 else [*parts, '']
