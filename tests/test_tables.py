"""Results are readable: aligned, short numbers, nothing lost."""

from autoguide_jax import tables


def test_table_has_every_column_and_aligns_numbers_right():
    rows = [{'arm': 'none', 'fd': 12.345678, 'n': 1797}, {'arm': 'cfg', 'fd': 3.0, 'note': [1]}]
    assert tables.render(rows).splitlines() == [
        'arm       fd     n  note',
        '----  ------  ----  ----',
        'none  12.346  1797  –',
        'cfg        3     –  [1]',
    ]


def test_one_result_is_a_list_of_names_and_values():
    assert tables.render({'run': 'a', 'images': 2**21, 'done': True}).splitlines() == [
        'run     a',
        'images  2097152',
        'done    True',
    ]


def test_no_rows():
    assert tables.render([]) == '(no rows)'
