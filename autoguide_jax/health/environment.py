"""What the environment says of hosts, ports and chips, before JAX is asked (and may hang)."""

import errno
import glob
import os
import pathlib
import re
import socket
import urllib.request
from typing import NamedTuple

from autoguide_jax.health.finding import fault, fine, warning

TPU_PORT = 8482  # what jax.distributed takes on TPUs unless JAX_COORDINATOR_PORT says otherwise
PROXIES = ('grpc_proxy', 'https_proxy', 'http_proxy')  # in gRPC's order; it knows lower case only
SLURM = (
    'SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID',
)  # fmt: skip
CONNECT_SECONDS = 3
# Errors that may pass: a name server or a network that is not up yet, a host that still starts.
PASSING = (
    socket.EAI_AGAIN, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN,
    errno.ECONNRESET,
)  # fmt: skip
HOSTS = re.compile(r'(.+):(\d+),(\d+),(\d+)')


class Job(NamedTuple):
    """What a job is, by the command line or the environment: its size, this process's place in it.

    coordinator: (address, port), or None where only JAX can tell.
    """

    size: int = 1
    index: int = 0
    coordinator: tuple | None = None


def tpu_chips():
    """How many TPU chips this host has; looked up as JAX does, on the PCI bus."""
    vendors = glob.glob('/sys/bus/pci/devices/*/vendor')
    google = [path for path in vendors if pathlib.Path(path).read_text().strip() == '0x1ae0']
    kinds = (pathlib.Path(path).with_name('device').read_text().strip() for path in google)
    return sum(kind in TPU_KINDS for kind in kinds)


# v3, v4, v5p, v5e, v6e, tpu7x
TPU_KINDS = ('0x0027', '0x0056', '0x005e', '0x0062', '0x0063', '0x006f', '0x0076')


def job(hosts='', environment=os.environ, chips=0):
    """The Job: of --hosts=ADDRESS:PORT,INDEX,COUNT, else of Slurm, else of the TPU's variables.

    On a TPU host that has no such variables the machine's metadata are asked.
    Errors: ValueError for a port that is no number.
    """
    get = environment.get
    port = get('JAX_COORDINATOR_PORT', '')
    if port and not port.isdigit():
        raise ValueError(f'JAX_COORDINATOR_PORT ({port}) must be a port number, as 8476')
    if by_hand := HOSTS.fullmatch(hosts):
        name, given, index, size = by_hand.groups()
        return Job(int(size), int(index), (name, int(given)))
    if all(name in environment for name in SLURM):
        return Job(int(get('SLURM_NTASKS')), int(get('SLURM_PROCID')))
    workers = get('TPU_PROCESS_ADDRESSES') or get('TPU_WORKER_HOSTNAMES')
    index = get('TPU_WORKER_ID', '0')
    if not workers and chips and 'TPU_SKIP_MDS_QUERY' not in environment:
        workers = metadata('worker-network-endpoints', environment)
        index = metadata('agent-worker-number', environment) or '0'
    if not workers:
        return Job()
    names = [worker.split(':') for worker in workers.split(',')]
    # The metadata of older TPU VMs have name:id:address.
    first = names[0][2] if len(names[0]) == 3 else names[0][0]
    return Job(len(names), int(index), (first, int(port or TPU_PORT)))


def metadata(key, environment=os.environ):
    """One attribute of a Google Cloud machine, '' where there is none."""
    server = environment.get('GCE_METADATA_IP', 'metadata.google.internal')
    url = f'http://{server}/computeMetadata/v1/instance/attributes/{key}'
    request = urllib.request.Request(url, headers={'Metadata-Flavor': 'Google'})
    try:
        # Never through a proxy: the server is the machine's own.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=2) as reply:
            return reply.read().decode()
    except OSError:
        return ''


def check_size(found, connected):
    """Whether as many processes work together as the environment names. found: a Job."""
    if connected >= found.size:
        return fine('processes', f'{connected} together')
    return fault(
        'processes',
        f'{connected} together, but the environment names {found.size}',
        'start the same command on every host, with --hosts=auto (launched on one host only, the '
        'first use of the devices can wait for ever)',
    )


def check_proxies(found, connected, environment=os.environ):
    """Proxies make the first connection between hosts hang: gRPC sends it to them."""
    given = [name for name in PROXIES if environment.get(name)]
    direct = environment.get('no_grpc_proxy') or environment.get('no_proxy') or ''
    coordinator = found.coordinator[0] if found.coordinator else ''
    # gRPC compares the ends of names; it knows no '*'.
    ends = tuple(end.strip() for end in direct.split(',') if end.strip())
    around = coordinator.endswith(ends) if ends else False
    if not given or found.size == 1 or around or connected > 1:
        return fine('proxies', f'{", ".join(given) or "none"}')
    return warning(
        'proxies',
        f'{", ".join(given)}: the hosts may wait for each other for ever',
        f'unset {" ".join(given)}, or no_proxy={coordinator or "ADDRESS_OF_HOST_0"}',
    )


def check_port(found, connected, seconds=CONNECT_SECONDS):
    """Whether the coordinator's port is free on its host, and not blocked on the way from others.

    Nothing needs to listen yet: a refusal comes from the host itself, so the way there is open.
    """
    if found.size == 1 or not found.coordinator or connected > 1:
        return fine('coordinator port', 'hosts are connected' if connected > 1 else 'not needed')
    address, port = found.coordinator
    change = 'take another port on all hosts: JAX_COORDINATOR_PORT=8476, or that of --hosts'
    if found.index == 0:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(('', port))
            except OSError as error:
                return fault('coordinator port', f'{port} cannot be used: {error.strerror}', change)
        return fine('coordinator port', f'{port} is free')
    try:
        socket.create_connection((address, port), seconds).close()
    except ConnectionRefusedError:
        return fine('coordinator port', f'{address}:{port} can be reached, nothing listens yet')
    except TimeoutError:
        return warning(
            'coordinator port',
            f'{address}:{port} does not answer within {seconds} s: blocked, or no such host',
            f'{change}, or open it in the firewall',
        )
    except OSError as error:
        found = f'{address}:{port}: {error}'
        if error.errno in PASSING:
            return warning('coordinator port', found, 'if it stays so, mend address or network')
        return fault('coordinator port', found, 'mend the address')
    return fine('coordinator port', f'{address}:{port} answers')


def check_platform(platform, chips, environment=os.environ):
    """Whether JAX uses the TPU that is here. platform: of its devices, or '' if not asked yet."""
    wanted = environment.get('JAX_PLATFORMS', '')
    first = wanted.split(',')[0]
    if chips and first not in ('', 'tpu'):
        return warning(
            'platform',
            f'JAX_PLATFORMS={wanted} on a host with {chips} TPU chips, which stay idle',
            'unset JAX_PLATFORMS',
        )
    if chips and platform == 'cpu':
        return fault(
            'platform',
            f'JAX sees none of the {chips} TPU chips of this host',
            "pip install 'jax[tpu]', or set JAX_PLATFORMS=cpu if the processor is meant",
        )
    # WSL and containers included; the driver may be there without a GPU, so this only warns.
    if not wanted and platform == 'cpu' and glob.glob('/dev/nvidia[0-9]*'):
        return warning(
            'platform',
            'JAX computes on the processor of a host with a GPU',
            "pip install 'jax[cuda13]' (or cuda12), or set JAX_PLATFORMS=cpu",
        )
    return fine('platform', platform or wanted or 'not asked')


def likely_causes():
    """Why hosts do not find each other, as one sentence for the error that says so."""
    return (
        'Likely: the command runs on some of the hosts only; another host ended with an error (see '
        'its log); a proxy variable is set (unset https_proxy http_proxy grpc_proxy); or the '
        "coordinator's port is blocked (set JAX_COORDINATOR_PORT to another on all hosts)"
    )
