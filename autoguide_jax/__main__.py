"""The one command line: python -m autoguide_jax VERB --config=… --workdir=… [--config.a.b=value].

A program is a settings dataclass and main(settings, workdir) → rows, one dict or None. verbs.py
lists them; they are imported only when asked for, and JAX only when one of them needs it.

The environment variable AUTOGUIDE_JAX_CACHE names the folder of the persistent compilation cache
(default ~/.cache/autoguide_jax/xla; 'off' disables it): programs that took a second to compile are
read back from there. JAX's own variables of its cache (JAX_COMPILATION_CACHE_DIR) come first.
"""

import importlib
import inspect
import json
import logging
import os
import pathlib
import sys

from autoguide_jax import arguments, config, helptext, machine, registry, schema, stop, tables
from autoguide_jax.verbs import FLAGS, PREPARED, VERBS

PASSING = 75  # the exit code EX_TEMPFAIL of sysexits.h
# Flags that stand for a setting of some verbs and mean nothing to the others.
SHORT = {name for verb in VERBS.values() for name in verb.short}


def _known(command):
    """Return the names of the flags that a verb takes."""
    verb = VERBS[command.verb]
    known = set(FLAGS) - (SHORT - set(verb.short))
    if verb.settings is None:
        known -= {'config', 'dry_run'}
    elif not verb.workdir:
        known -= {'workdir'}
    if command.verb == 'prepare':
        known -= {'workdir', 'devices'}
        known |= set(schema.component_fields(_prepared(command))) if command.words else set()
    return known


def _check(command):
    verb, known = command.verb, _known(command)
    if command.words[verb == 'prepare' :]:
        raise ValueError(f'unexpected {command.words[-1]!r}: settings are written --name=value')
    if 'hosts' in command.flags and VERBS[command.verb].hosts == 'one':
        raise ValueError(
            f'--hosts: {command.verb} runs on one host; leave it out, and start it there'
        )
    for name in command.flags:
        if name not in known:
            raise ValueError(f'--{name}: unknown flag.{registry.suggest(name, sorted(known))}')
    if command.overrides and 'config' not in known:
        raise ValueError(f'--config.{command.overrides[0][0]}: {verb} has no settings')


def _prepared(command):
    name = command.words[0]
    if name not in PREPARED.names():
        known = registry.suggest(name, PREPARED.names())
        raise ValueError(f'prepare: unknown data set {name!r}.{known}')
    return PREPARED.get(name)


def run(command):
    """Do what a command line says, and print what comes of it."""
    if command.verb is None:
        print(overview())
        return
    if command.verb not in VERBS:
        raise ValueError(f'unknown verb {command.verb!r}.{registry.suggest(command.verb, VERBS)}')
    _check(command)
    if command.flags.get('help'):
        print(explain(command))
        return
    flags, settings = command.flags, _settings(command)
    if flags.get('dry_run'):
        print(json.dumps(config.resolved(settings), indent=2, ensure_ascii=False))
        return
    result = _prepare(command) if command.verb == 'prepare' else _start(command, settings)
    if 'hosts' not in flags or registry.resolve('autoguide_jax.processes:is_main')():
        if result is not None:
            print(tables.render(result))
        if 'json' in flags:
            registry.resolve('autoguide_jax.files:write_json')(flags['json'], result)
    if judge := VERBS[command.verb].judge:
        registry.resolve(judge)(result)


def _settings(command):
    verb = VERBS[command.verb]
    if verb.settings is None:
        return None
    source = command.flags.get('config', verb.default_config)
    cls = settings_class(verb, source)
    short = [(name, command.flags[name]) for name in verb.short if name in command.flags]
    return config.parse(cls, config.load(source, [*command.overrides, *short], cls))


def settings_class(verb, source):
    """The dataclass of a Verb's settings, which may depend on the config file."""
    target = registry.resolve(verb.settings)
    return target if inspect.isclass(target) else target(config.load(source))


def _start(command, settings):
    """Run the program of a verb under stop.watch() and return its result."""
    verb, workdir = VERBS[command.verb], command.flags.get('workdir')
    if verb.workdir and not workdir:
        raise ValueError(f'{command.verb} needs --workdir=FOLDER, local or gs://')
    _prepare_jax(command.flags)
    given = (settings, workdir) if verb.settings else (workdir,)
    try:
        with stop.watch():
            if 'hosts' in command.flags:
                registry.resolve('autoguide_jax.health:before_connecting')(command.flags['hosts'])
                registry.resolve('autoguide_jax.processes:connect')(command.flags['hosts'])
            if workdir and verb.settings:
                registry.resolve('autoguide_jax.files:make_folder')(workdir)
            main = registry.resolve(verb.main)
            if verb.hosts == 'first' and 'hosts' in command.flags:
                result = _on_first(command.verb, main, given)
            else:
                result = main(*given)
            if verb.then:
                stop.check(command.verb)
                registry.resolve(VERBS[verb.then].main)(workdir)
    except Exception as error:
        clear = registry.resolve('autoguide_jax.buckets:explained')(error)
        if isinstance(error, ValueError):
            error.add_note('(--debug shows where)')
        if clear is error:
            raise
        raise clear from error
    return result


def _on_first(verb, main, given):
    """main(*given) on the first process, while the others wait; None on those."""
    processes = importlib.import_module('autoguide_jax.processes')
    processes.find_devices()
    with processes.main_first(verb):
        return main(*given) if processes.is_main() else None


def _prepare(command):
    if not command.words:
        raise ValueError(f'prepare what?{registry.suggest("", PREPARED.names())}')
    function = _prepared(command)
    settings = {}
    for name, field in schema.component_fields(function).items():
        if name in command.flags:
            settings[name] = config.setting(field, command.flags[name], f'--{name}')
        elif field.default is schema.MISSING:
            raise ValueError(f'prepare {command.words[0]} needs --{name}=…')
    return function(**settings)


def _prepare_jax(flags):
    """Set JAX's options without importing it, and quiet the libraries that log through absl."""
    import absl.logging

    if not flags.get('debug'):
        absl.logging.set_verbosity(absl.logging.ERROR)
        # Orbax leaves tasks behind whose errors it has raised; asyncio tells of each again.
        logging.getLogger('asyncio').setLevel(logging.CRITICAL)
    options = {}
    cache = os.environ.get('AUTOGUIDE_JAX_CACHE', '~/.cache/autoguide_jax/xla')
    if cache != 'off':
        options['jax_compilation_cache_dir'] = str(pathlib.Path(cache).expanduser())
        options['jax_persistent_cache_min_compile_time_secs'] = 1.0
    options = {name: value for name, value in options.items() if name.upper() not in os.environ}
    options['jax_num_cpu_devices'] = _cpu_devices(flags)
    for name, value in options.items():
        # JAX reads its environment on import; a program's module may have imported it already.
        if 'jax' in sys.modules:
            sys.modules['jax'].config.update(name, value)
        else:
            os.environ[name.upper()] = str(value)


def _cpu_devices(flags):
    if 'devices' not in flags:
        return machine.cpu_devices()
    count = config.setting(schema.Field(int, None, ''), flags['devices'], '--devices')
    if count < 1:
        raise ValueError(f'--devices ({count}) must be at least 1')
    return count


def _command(verb):
    return f'python -m autoguide_jax {verb} {VERBS[verb].example}'


def overview():
    """Return the text of --help: verbs, flags and three examples."""
    verbs = {name: verb.help for name, verb in VERBS.items()}
    return helptext.overview(verbs, FLAGS, [_command(v) for v in ('train', 'sample', 'study')])


def explain(command):
    """Return the text of VERB --help: example, flags and every setting with its meaning."""
    verb = VERBS[command.verb]
    lines = [f'{command.verb}: {verb.help}', '', f'example: {_command(command.verb)}', '']
    if command.verb == 'prepare':
        for name in PREPARED.names():
            rows = schema.describe_component(PREPARED.get(name))
            doc = inspect.getdoc(PREPARED.get(name))
            lines += [f'prepare {name}', helptext.settings(rows), '', doc]
        return '\n'.join(lines)
    lines.append(helptext.listing({name: FLAGS[name] for name in FLAGS if name in _known(command)}))
    if verb.settings:
        source = command.flags.get('config', verb.default_config)
        cls = settings_class(verb, source)
        rows = schema.describe(cls, tree=config.load(source, command.overrides, cls))
        title = f'settings, with the values of {source}' if source else 'settings and defaults'
        lines += ['', f'{title}:', helptext.settings(rows)]
    return '\n'.join(lines)


def main(argv=None):
    """Run a command line and return its exit code.

    0 done, 2 what the user can mend, 75 what may pass by itself, 128 + signal.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        command = arguments.read(argv)
        run(command)
    except stop.Stopped as stopped:
        resumes = '; the same command resumes' if VERBS[command.verb].workdir else ''
        print(f'{stopped}{resumes}', file=sys.stderr, flush=True)
        _leave(command, 128 + stopped.signum)
    except (KeyboardInterrupt, BrokenPipeError) as error:
        return 130 if isinstance(error, KeyboardInterrupt) else 141
    except (ValueError, OSError, FloatingPointError) as error:
        if '--debug' in argv:
            raise
        print(' '.join([f'error: {error}', *getattr(error, '__notes__', ())]), file=sys.stderr)
        code = PASSING if isinstance(error, stop.Passing) else 2
        if stop.hung():
            _leave(command, code)
        return code
    return 0


def _leave(command, code):
    """End at once: a compilation may still run in a thread, or work hang that others wait for."""
    machine.flush()
    if 'hosts' in command.flags:
        registry.resolve('autoguide_jax.processes:leave')()
    os._exit(code)


if __name__ == '__main__':
    machine.use_huge_pages()
    machine.leave_after(main)
