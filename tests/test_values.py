"""Text from a command line becomes exactly the value that was meant, or a clear error."""

import math
import typing

import pytest

from autoguide_jax import values

Floats = tuple[float, ...]
Ints = tuple[int, ...]


@pytest.mark.parametrize(
    ('kind', 'raw', 'value'),
    [
        (int, '128Ki', 131072),
        (int, '8Mi', 8388608),
        (int, '2Gi', 2147483648),
        (int, '1.5Mi', 1572864),
        (int, '1_000', 1000),
        (int, '1e6', 1000000),
        (int, 1e6, 1000000),
        (int, '-1', -1),
        (float, '0.1', 0.1),
        (float, 2, 2.0),
        (float, 'inf', math.inf),
        (float, '-inf', -math.inf),
        (float, '1e-3', 0.001),
        (bool, 'true', True),
        (bool, 'False', False),
        (bool, '0', False),
        (bool, 1, True),
        (str, '128Ki', '128Ki'),
        (int | None, 'none', None),
        (int | None, '3', 3),
        (float | Floats, '0.5', 0.5),
        (float | Floats, '0.5,1', (0.5, 1.0)),
        (int | str, 'all', 'all'),
        (int | str, '7', 7),
        (float | int, 2, 2),
        (typing.Literal['stop', 'zero'], 'zero', 'zero'),
        (typing.Literal[1, 2], '2', 2),
        (tuple[float, float], '0.17,inf', (0.17, math.inf)),
        (dict[str, float], {'a': '1'}, {'a': 1.0}),
        (typing.Sequence[int], '1,2,3', (1, 2, 3)),
        (list[int], [1, '2'], (1, 2)),
        (tuple, '1,a', (1, 'a')),
        (typing.Any, 'bfloat16', 'bfloat16'),
        (typing.Any, '2.5', 2.5),
        (typing.Any, 2.0, 2.0),
    ],
)
def test_reads(kind, raw, value):
    read = values.coerce(kind, raw)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ('kind', 'raw', 'value'),
    [
        (Floats, '0.1,0.2,…,0.5', (0.1, 0.2, 0.3, 0.4, 0.5)),
        (Floats, '1.0,1.25,...,2', (1.0, 1.25, 1.5, 1.75, 2.0)),
        (Floats, [0.1, 0.2, ..., 0.5], (0.1, 0.2, 0.3, 0.4, 0.5)),
        (Floats, '3,2,…,0', (3.0, 2.0, 1.0, 0.0)),
        (Floats, '0.01,0.02,…,0.04,0.1,0.2', (0.01, 0.02, 0.03, 0.04, 0.1, 0.2)),
        (Floats, '0.3333,0.6666,…,1.3332', (0.3333, 0.6666, 0.9999, 1.3332)),
        (Ints, '128Ki,256Ki,…,512Ki', (131072, 262144, 393216, 524288)),
        (Ints, '(1, 2)', (1, 2)),
        (Ints, '[3,]', (3,)),
        (Ints, '', ()),
        (Ints, '5', (5,)),
        (Ints, 5, (5,)),
        (tuple[str, ...], 'a, b', ('a', 'b')),
    ],
)
def test_lists(kind, raw, value):
    assert values.coerce(kind, raw) == value


@pytest.mark.parametrize(
    ('kind', 'raw', 'message'),
    [
        (int, '5.5', "'5.5' is not a whole number such as 1000, 128Ki, 8Mi or 2Gi"),
        (int, '8Mb', "'8Mb' is not a number"),
        (int, True, 'True is not a whole number'),
        (int, 'inf', "'inf' is not a whole number"),
        (int, '1e99999999', 'is not a number'),
        (int, '1e30', 'is not a whole number'),
        (int, None, 'None is not a number'),
        (float, 'nan', "'nan' is not a number"),
        (float, True, 'True is not a number'),
        (bool, 'yes', "'yes' is not one of true, false, 1, 0"),
        (bool, 2, '2 is not one of'),
        (str, 3, '3 is not text'),
        (tuple[float, float], '1,2,3', "'1,2,3' has 3 items instead of 2"),
        (Floats, '0.1,…,0.5', 'needs two numbers before it'),
        (Floats, '0.1,0.2,…', 'needs an end'),
        (Floats, '0.1,0.2,…,0.55', '0.55 is not on the progression 0.1, 0.2, …'),
        (Floats, '0.1,0.2,…,0.1', '0.1 is not on the progression'),
        (Floats, '1,1,…,1', 'is not on the progression'),
        (Floats, '0,1,…,inf', 'is not on the progression'),
        (Floats, '0,1e-9,…,1', 'stands for 999999999 numbers; at most 10000'),
        (Floats, '0.1,a', "'a' is not a number"),
        (Floats, {'a': 1}, 'is not a number'),
        (typing.Literal['stop', 'zero'], 'stp',  "not one of the choices. Did you mean 'stop'?"),
        (float | Floats, 'a', "'a' is not a valid float | float,float,…"),
        (float | object, 'a', "'a' is not a valid float | object"),
        (dict[str, float], '1', "'1' is not a section"),
    ],
)  # fmt: skip
def test_refuses(kind, raw, message):
    with pytest.raises(ValueError) as caught:
        values.coerce(kind, raw)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ('kind', 'value'),
    [(Floats, (0.1, math.inf)), (bool, True), (int | None, None), (tuple[str, ...], ('a', 'b'))],
)
def test_text_is_what_one_would_type(kind, value):
    assert values.coerce(kind, values.text(value)) == value


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        (int, 'int'),
        (Floats, 'float,float,…'),
        (tuple[float, float], 'float,float'),
        (int | None, 'int | none'),
        (typing.Literal['a', 'b'], 'a | b'),
        (typing.Any, 'any'),
    ],
)
def test_type_names(kind, name):
    assert values.type_name(kind) == name
