"""A pickle machine that executes nothing: a closed world of opcodes and names, with bounds.

It builds None, bools, numbers, texts, lists, tuples, dicts and sets of texts, and for the names of
its world, given by the caller, inert records. Everything else is a Refused error that names the
offender and the byte. A length is compared with what is left of the data before it is believed;
bytes are views, never copied; texts that follow the key 'module_src' (source code of persistent
classes) are skipped undecoded. Work and memory are bounded by MAX_OPCODES.

Opcodes: https://docs.python.org/3/library/pickletools.html
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any

from autoguide_jax.inert.records import (
    MARK,
    MAX_TEXT,
    Blob,
    Name,
    Record,
    Refused,
    decode,
    described,
    require,
)

# An XXL network has some 100,000; one makes at most one object.
MAX_OPCODES = 500_000
MAX_INTEGER = 255  # bytes
SOURCE = 'module_src'
NAMES = {op.code.encode('latin1')[0]: op.name for op in pickletools.opcodes}


class Machine:
    """Interprets one pickle of a blob after another; `load` returns the object of the next one.

    world: 'module.name' → Name. persistent: makes an object of a persistent id, None = refused.
    label: what errors call the file. attributes: dicts may have attributes, which are dropped.
    max_text: bytes of the longest text.
    """

    def __init__(
        self,
        blob: Blob,
        world: Mapping[str, Name],
        label: str,
        persistent: Callable[[Any], Any] | None = None,
        budget: list[int] | None = None,
        attributes: bool = False,
        max_text: int = MAX_TEXT,
    ):
        self.data, self.start, self.label = blob.view, blob.start, label
        self.world, self.persistent, self.attributes = world, persistent, attributes
        self.at = self.op_at = 0
        self.max_text = max_text
        # Shared with the machines of pickles inside this one.
        self.budget = [MAX_OPCODES] if budget is None else budget

    def load(self) -> Any:
        """Return the object of the next pickle. Errors: ValueError naming file and byte."""
        self.stack, self.memo = [], {}
        try:
            while True:
                self.op_at = self.at
                self.budget[0] -= 1
                require(self.budget[0] >= 0, f'more than {MAX_OPCODES} opcodes')
                code = self.take(1)[0]
                step = STEPS.get(code)
                require(step, f'opcode {NAMES.get(code, hex(code))} has no place here')
                if step is _stop:
                    require(len(self.stack) == 1 and self.stack[0] is not MARK, 'STOP too early')
                    return self.stack[0]
                step(self)
        except Refused as error:
            place = self.start + self.op_at
            raise ValueError(f'{self.label}, byte {place}: {error}') from None

    def take(self, count: int) -> memoryview:
        """Return the next bytes. Errors: Refused if there are fewer."""
        left = len(self.data) - self.at
        require(count <= left, f'needs {count} bytes, but {left} are left: truncated or damaged')
        self.at += count
        return self.data[self.at - count : self.at]

    def uint(self, size: int) -> int:
        """Return the next unsigned integer of `size` bytes, little-endian."""
        return int.from_bytes(self.take(size), 'little')

    def line(self) -> str:
        """Return the next line, as GLOBAL has it."""
        end = bytes(self.data[self.at : self.at + 256]).find(b'\n')
        require(end >= 0, 'a name without an end')
        text = decode(self.take(end), 'ascii')
        self.at += 1
        return text

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        """Return the top of the stack. Errors: Refused if there is none, or a MARK."""
        require(self.stack and self.stack[-1] is not MARK, 'nothing on the stack')
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        """Return the top of the stack, still there, if it is of a type."""
        good = self.stack and type(self.stack[-1]) is kind
        require(good, f'{NAMES[self.data[self.op_at]]} needs a {kind.__name__} on the stack')
        return self.stack[-1]

    def above_mark(self) -> list:
        """Return what lies above the last MARK, and remove both."""
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is MARK:
                found = self.stack[i + 1 :]
                del self.stack[i:]
                return found
        raise Refused('no MARK on the stack')

    def put(self, key: int) -> None:
        require(self.stack and self.stack[-1] is not MARK, 'nothing to memoize')
        self.memo[key] = self.stack[-1]

    def get(self, key: int) -> None:
        require(key in self.memo, f'memo {key} is not set')
        self.push(self.memo[key])

    def name(self, module: Any, name: Any) -> None:
        """Push a Name of the world. Errors: Refused naming it, if it is not allowed."""
        full = f'{module}.{name}' if type(module) is type(name) is str else 'a name of no text'
        require(full in self.world, f'{full[:200]} has no place in a file of weights')
        self.push(self.world[full])


def _text(m, size):
    view = m.take(m.uint(size))
    is_source = m.stack and type(m.stack[-1]) is str and m.stack[-1] == SOURCE
    m.push(None if is_source else decode(view, limit=m.max_text))


def _bytes(m, size):
    view = m.take(m.uint(size))
    m.push(Blob(view, m.start + m.at - len(view)))


def _long(m, size):
    count = m.uint(size)
    require(count <= MAX_INTEGER, f'an integer of {count} bytes; at most {MAX_INTEGER}')
    m.push(int.from_bytes(m.take(count), 'little', signed=True))


def _float(m):
    m.push(struct.unpack('>d', m.take(8))[0])


def _proto(m):
    version = m.uint(1)
    require(2 <= version <= 5, f'pickle protocol {version}; 2 to 5 are known')


def _frame(m):
    count, left = m.uint(8), len(m.data) - m.at
    require(count <= left, f'a frame of {count} bytes, but {left} are left: truncated or damaged')


def _tuple(m, count):
    items = [m.pop() for _ in range(count)]
    m.push(tuple(reversed(items)))


def _fill(m, pairs):
    target = m.top(dict)
    require(len(pairs) % 2 == 0, 'a key without a value')
    for key, value in zip(pairs[::2], pairs[1::2]):
        require(type(key) in (str, int), f'a key of type {type(key).__name__}')
        target[key] = value


def _dict(m):
    pairs = m.above_mark()
    m.push({})
    _fill(m, pairs)


def _setitem(m):
    value, key = m.pop(), m.pop()
    _fill(m, [key, value])


def _append(m):
    value = m.pop()
    m.top(list).append(value)


def _appends(m):
    values = m.above_mark()
    m.top(list).extend(values)


def _additems(m):
    values = m.above_mark()
    require(all(type(v) in (str, int) for v in values), 'a set of something else than texts')
    m.top(set).update(values)


def _global(m):
    m.name(m.line(), m.line())


def _stack_global(m):
    name, module = m.pop(), m.pop()
    m.name(module, name)


def _reduce(m):
    arguments, name = m.pop(), m.pop()
    good = type(name) is Name and name.call and type(arguments) is tuple
    require(good, f'REDUCE of {described(name)}')
    m.push(name.call(arguments))


def _newobj(m):
    arguments, name = m.pop(), m.pop()
    good = type(name) is Name and name.new and type(arguments) is tuple and not arguments
    require(good, f'NEWOBJ of {described(name)}')
    m.push(name.new())


def _build(m):
    state = m.pop()
    if m.attributes and m.stack and type(m.stack[-1]) is type(state) is dict:
        return
    require(m.stack and isinstance(m.stack[-1], Record), f'BUILD of {described(m.stack[-1:])}')
    m.stack[-1].build(state)


def _persid(m):
    require(m.persistent, 'a persistent id outside a tensor storage')
    m.push(m.persistent(m.pop()))


def _stop(m):
    """The end; `load` sees to it."""


def _push(make):
    return lambda m: m.push(make())


def _sized(step, size):
    return lambda m: step(m, size)


STEPS_BY_NAME = {
    'PROTO': _proto, 'FRAME': _frame, 'STOP': _stop, 'MARK': _push(lambda: MARK),
    'POP': lambda m: m.pop(), 'POP_MARK': lambda m: m.above_mark(),
    'NONE': _push(lambda: None), 'NEWTRUE': _push(lambda: True), 'NEWFALSE': _push(lambda: False),
    'BININT': lambda m: m.push(int.from_bytes(m.take(4), 'little', signed=True)),
    'BININT1': lambda m: m.push(m.uint(1)), 'BININT2': lambda m: m.push(m.uint(2)),
    'LONG1': _sized(_long, 1), 'LONG4': _sized(_long, 4), 'BINFLOAT': _float,
    'SHORT_BINUNICODE': _sized(_text, 1), 'BINUNICODE': _sized(_text, 4),
    'BINUNICODE8': _sized(_text, 8), 'SHORT_BINBYTES': _sized(_bytes, 1),
    'BINBYTES': _sized(_bytes, 4), 'BINBYTES8': _sized(_bytes, 8),
    'BYTEARRAY8': _sized(_bytes, 8),
    'EMPTY_LIST': _push(list), 'APPEND': _append, 'APPENDS': _appends,
    'LIST': lambda m: m.push(m.above_mark()), 'EMPTY_TUPLE': _push(tuple),
    'TUPLE': lambda m: m.push(tuple(m.above_mark())), 'TUPLE1': _sized(_tuple, 1),
    'TUPLE2': _sized(_tuple, 2), 'TUPLE3': _sized(_tuple, 3), 'EMPTY_DICT': _push(dict),
    'DICT': _dict, 'SETITEM': _setitem, 'SETITEMS': lambda m: _fill(m, m.above_mark()),
    'EMPTY_SET': _push(set), 'ADDITEMS': _additems,
    'MEMOIZE': lambda m: m.put(len(m.memo)), 'BINPUT': lambda m: m.put(m.uint(1)),
    'LONG_BINPUT': lambda m: m.put(m.uint(4)), 'BINGET': lambda m: m.get(m.uint(1)),
    'LONG_BINGET': lambda m: m.get(m.uint(4)), 'GLOBAL': _global, 'STACK_GLOBAL': _stack_global,
    'REDUCE': _reduce, 'NEWOBJ': _newobj, 'BUILD': _build, 'BINPERSID': _persid,
}  # fmt: skip
STEPS = {code: STEPS_BY_NAME[name] for code, name in NAMES.items() if name in STEPS_BY_NAME}
