"""Is every host fit to work, and are they fit to work together? One table, a fix for each fault.

A warning lets work go on; a fault does not, and the exit code is 2. Hosts compare notes without
their devices, so that there is a table even if a device hangs.
"""

import jax

from autoguide_jax import processes, stop
from autoguide_jax.health import environment, hosts, resources
from autoguide_jax.health.finding import FAULT, OK, fault, fine
from autoguide_jax.health.verdict import check_workdir


def main(workdir=None, seconds=hosts.SECONDS):
    """Look at everything; returns the rows of the table, the same on all processes.

    seconds: what each step may take that devices of all hosts do together.
    """
    chips, together = environment.tpu_chips(), hosts.count()
    job = environment.job(chips=chips)
    size = environment.check_size(job, together)
    found = [
        size,
        environment.check_proxies(job, together),
        environment.check_port(job, together),
        *alone(chips, workdir),
    ]
    if workdir:
        found += [fine('same workdir', str(workdir), same=True), *check_workdir(workdir)]
    if set(hosts.gather(size.state)) == {OK}:
        # Otherwise the devices of a pod could wait for ever.
        found += united(chips, seconds)
    if any(hosts.gather(stop.hung())):
        stop.give_up()
    return hosts.table(found)


def alone(chips, workdir):
    """Findings for which no other host is needed and no device is asked."""
    return [
        *resources.check_versions(),
        resources.check_disk(workdir),
        resources.check_memory(),
        resources.check_open_files(),
        resources.check_huge_pages(chips),
        resources.check_cache(jax.config.jax_compilation_cache_dir),
        hosts.check_clock(),
    ]


def united(chips, seconds):
    """Findings that need the devices and, for the sum, those of the other hosts."""
    doing, found = 'devices', []
    try:
        platform = processes.find_devices(seconds)[0].platform
        found += [environment.check_platform(platform, chips), hosts.check_devices()]
        doing = 'collective'
        found.append(hosts.check_sum(seconds))
    except stop.Hung as error:
        found.append(fault(doing, str(error), environment.likely_causes()))
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0]
        found.append(fault(doing, said, fix_devices(said)))
    return found


def fix_devices(said):
    """What helps against what JAX says of its devices."""
    if 'in use' in said.lower():
        return 'end the other program that holds the TPU, and remove the lock file that it names'
    if 'nable to initialize backend' in said or 'nknown backend' in said:
        return "correct JAX_PLATFORMS, or install its plugin (pip install 'jax[tpu]')"
    return environment.likely_causes()


def judge(rows):
    """Raise ValueError, for the exit code, if a row is at fault."""
    found = dict.fromkeys(row['check'] for row in rows if row['state'] == FAULT)
    if found:
        raise ValueError(f'at fault: {", ".join(found)}; the table says what to do')
