"""The quick half of the doctor, which programs run by themselves: silent if all is well."""

import functools
import sys

import jax

from autoguide_jax import files, processes, stop
from autoguide_jax.health import environment, hosts, resources
from autoguide_jax.health.finding import FAULT, WARNING, fine
from autoguide_jax.health.workdir import Mark


def quick(workdir, settings):
    """Look at host and workdir; print a line per warning, raise ValueError for a fault.

    With several processes all must call it: the versions, the commit and `settings` (JSON-able)
    must be the same on all of them, and the workdir must be shared.
    """
    chips = environment.tpu_chips()
    # First and alone: where hosts are missing, looking for devices could wait for ever.
    conclude([environment.check_size(environment.job(chips=chips), hosts.count())])
    found = [
        environment.check_platform(processes.find_devices()[0].platform, chips),
        resources.check_cache(jax.config.jax_compilation_cache_dir),
        *check_workdir(workdir),
    ]
    if hosts.count() > 1:
        found += [*resources.check_versions(), hosts.check_devices()]
        found.append(fine('settings', files.content_hash(settings), same=True))
    conclude(found)


def before_connecting(hosts_given):
    """The same of what makes hosts wait for each other; hosts_given: the text of --hosts."""
    job = environment.job(hosts_given, chips=environment.tpu_chips())
    conclude([environment.check_proxies(job, 1), environment.check_port(job, 1)])


def check_workdir(workdir):
    """Findings about the workdir; every process has to call it."""
    mark = Mark(workdir)
    try:
        if hosts.count() == 1:
            return [mark.remove()]
        shared = mark.see(hosts.gather(mark.name))
        hosts.gather(None)  # nobody removes a mark that others have yet to look for
        return [mark.remove(), shared]
    except (OSError, ValueError, stop.Stopped):
        mark.remove()
        raise


def check_room(workdir, checkpoint, run):
    """The same for the disk: one checkpoint, and all that the run will write, in bytes."""
    conclude([resources.check_room(workdir, checkpoint, run)])


def conclude(found):
    """Print what warns, once each, and raise ValueError for what is at fault, on all processes."""
    rows = hosts.table(found)
    for row in rows:
        if row['state'] == WARNING and hosts.index() == 0:
            say(f'warning: {sentence(row)}')
    faults = [sentence(row) for row in rows if row['state'] == FAULT]
    if faults:
        raise ValueError('; '.join(faults))


@functools.cache
def say(line):
    """Print a line, the first time only: a study trains many networks in one process."""
    print(line, file=sys.stderr, flush=True)


def sentence(row):
    """A row of the table in words."""
    where = '' if row['hosts'] == 'all' else f' on process {row["hosts"]}'
    return f'{row["check"]}{where}: {row["found"]}. Fix: {row["fix"]}'
