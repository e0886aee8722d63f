"""Config files: Python with get_config(arg=None), and functions that declare sweeps beside it."""

import collections.abc
import importlib.util
import inspect
import pathlib
import re
import shlex

from autoguide_jax import values
from autoguide_jax.registry import suggest


def execute(source, sweeps=False):
    """Return what get_config of 'FILE.py' or 'FILE.py:ARG' returns, and what the file declares.

    sweeps: whether it is asked what its functions sweep() and sweep_NAME() yield, as {name:
    ('setting=value …', …)}; they may take ARG as well. Errors: ValueError for no such file or
    argument, one without get_config, and sweeps that are no settings.
    """
    file, arg = re.fullmatch(r'(.*?)(?:(?<=\.py):(.*))?', source, re.DOTALL).groups()
    module = _load(source, file)
    if not callable(getattr(module, 'get_config', None)):
        raise ValueError(f'--config={source}: {file} defines no get_config(arg=None)')
    if arg is not None and not inspect.signature(module.get_config).parameters:
        raise ValueError(f'--config={source}: {file} takes no argument; leave out :{arg}')
    given = [] if arg is None else [arg]
    try:
        tree = module.get_config(*given)
        return tree, dict(_declared(module, given)) if sweeps else {}
    except ValueError as error:
        raise ValueError(f'--config={source}: {error}') from error
    except KeyError as error:  # a config file that looks its argument up in a table
        if error.args != (arg,):
            raise
        raise ValueError(f'--config={source}: {file} has no {arg!r}') from error


def _load(source, file):
    beside = pathlib.Path(__file__).parent.parent
    found = next((p for p in (pathlib.Path(file), beside / file) if p.is_file()), None)
    if found is None or found.suffix != '.py':
        known = sorted(str(p.relative_to(beside)) for p in beside.glob('configs/*.py'))
        raise ValueError(f'--config={source}: no file {file!r}.{suggest(file, known)}')
    spec = importlib.util.spec_from_file_location(f'config_file_{found.stem}', found)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _declared(module, given):
    for name, function in vars(module).items():
        if not callable(function) or not re.fullmatch('sweep(_.+)?', name):
            continue
        takes = inspect.signature(function).parameters.values()
        if not given and any(p.default is p.empty for p in takes):
            raise ValueError(f'{name}() takes an argument: give one, as in --config=FILE.py:ARG')
        variants = function(*(given if takes else []))
        if not isinstance(variants, collections.abc.Iterable):
            raise ValueError(f'{name}() must yield settings; it returned {variants!r}')
        found = tuple(_variant(name, one) for one in variants)
        if not found:
            raise ValueError(f'{name}() yields nothing: the grid would be empty')
        yield name.removeprefix('sweep_'), found


def _variant(name, overrides):
    if not isinstance(overrides, collections.abc.Mapping) or not overrides:
        raise ValueError(
            f"{name}() must yield settings such as {{'guide.std': 0.1}}: {overrides!r}"
        )
    return shlex.join(f'{key}={values.text(value)}' for key, value in overrides.items())
