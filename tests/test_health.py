"""Every check of the doctor with a real fault, and the quick half that training runs."""

import errno
import http.server
import resource
import shutil
import socket
import subprocess
import sys
import threading

import pytest
from bucket import bucket  # noqa: F401
from faulty_bucket import Fault, _faulty_session, faults  # noqa: F401
from hosts import ROOT, free_port

from autoguide_jax import config, files, health, stop, train
from autoguide_jax.health import environment, resources, verdict
from autoguide_jax.health.environment import Job
from autoguide_jax.health.finding import fine, fold, warning
from autoguide_jax.health.workdir import Mark
from autoguide_jax.run_settings import Settings

NAMES = ['a', 'b', 'c']
SMALL = {'network': {'model_channels': 8, 'attn_resolutions': [4], 'channels_per_head': 8}}


def test_hosts_that_agree_are_one_row_and_others_are_named():
    found = [
        [fine('jax', '1', same=True), fine('disk', '{} GiB', amount=3.0)],
        [fine('jax', '2', same=True), fine('disk', '{} GiB', amount=5.0)],
        [fine('jax', '2', same=True), warning('disk', '{} GiB', 'free some', amount=0.5)],
    ]
    odd, usual, room, little = fold(found, NAMES)
    assert odd == {'check': 'jax', 'hosts': '0 (a)', 'state': 'fault', 'found': '1', **odd}
    assert odd['fix'].endswith('most have 2')
    assert usual == {'check': 'jax', 'hosts': '1 (b), 2 (c)', 'state': 'ok', 'found': '2'}
    assert (room['hosts'], room['found']) == ('0 (a), 1 (b)', '3–5 GiB')
    assert (little['state'], little['found'], little['fix']) == ('warning', '0.5 GiB', 'free some')
    assert [row['hosts'] for row in fold([own[1:] for own in found[:2]], NAMES[:2])] == ['all']


SLURM = {
    'SLURM_JOB_ID': '7', 'SLURM_STEP_NODELIST': 'n[1-4]', 'SLURM_NTASKS': '4',
    'SLURM_PROCID': '2', 'SLURM_LOCALID': '0',
}  # fmt: skip


@pytest.mark.parametrize(
    ('hosts', 'variables', 'job'),
    [
        ('', {}, Job()),
        ('10.0.0.1:99,1,4', {}, Job(4, 1, ('10.0.0.1', 99))),
        ('auto', SLURM, Job(4, 2)),
        # As JAX: not under srun, so a single process.
        ('', {'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '4', 'SLURM_PROCID': '0'}, Job()),
        ('', {'TPU_WORKER_HOSTNAMES': 'localhost'}, Job(1, 0, ('localhost', 8482))),
        (
            'auto',
            {'TPU_WORKER_HOSTNAMES': 'h0,h1', 'TPU_WORKER_ID': '1', 'JAX_COORDINATOR_PORT': '8476'},
            Job(2, 1, ('h0', 8476)),
        ),
        ('', {'TPU_PROCESS_ADDRESSES': 'h0:8471,h1:8471,h2:8471'}, Job(3, 0, ('h0', 8482))),
    ],
)
def test_what_the_environment_says_of_the_job(hosts, variables, job):
    assert environment.job(hosts, variables) == job


def test_a_coordinator_port_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r'JAX_COORDINATOR_PORT \(x\) must be a port number'):
        environment.job('', {'JAX_COORDINATOR_PORT': 'x'})


@pytest.mark.parametrize('workers', ['10.0.0.5,10.0.0.6', 'u:1:10.0.0.5,u:2:10.0.0.6'])
def test_a_tpu_host_without_variables_asks_its_metadata(workers):
    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            key = self.path.rpartition('/')[2]
            known = {'worker-network-endpoints': workers, 'agent-worker-number': '1'}
            assert self.headers['Metadata-Flavor'] == 'Google'
            self.send_response(200)
            self.end_headers()
            self.wfile.write(known[key].encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(('127.0.0.1', 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        variables = {'GCE_METADATA_IP': f'127.0.0.1:{server.server_port}', 'http_proxy': 'x:1'}
        assert environment.job('', variables, chips=4) == Job(2, 1, ('10.0.0.5', 8482))
        assert environment.job('', variables, chips=0) == Job()
        server.shutdown()
    assert environment.job('', variables, chips=4) == Job()


def test_one_host_of_several_is_a_fault():
    assert environment.check_size(Job(4), 4).state == 'ok'
    found = environment.check_size(Job(4), 1)
    assert found.state == 'fault' and 'names 4' in found.found and '--hosts=auto' in found.fix


def test_proxies_that_make_hosts_wait_are_told():
    proxied, job = {'https_proxy': 'http://p:1', 'http_proxy': ''}, Job(2, 1, ('h0.lan', 8482))
    found = environment.check_proxies(job, 1, proxied)
    assert found.state == 'warning' and found.fix == 'unset https_proxy, or no_proxy=h0.lan'
    for around in ('h0.lan', 'x, .lan'):
        state = environment.check_proxies(job, 1, proxied | {'no_proxy': around}).state
        assert state == 'ok', around
    assert (
        environment.check_proxies(job, 1, proxied | {'no_proxy': 'x,h1.lan,*'}).state == 'warning'
    )
    for fit in ((Job(), 1, proxied), (job, 2, proxied), (job, 1, {})):
        assert environment.check_proxies(*fit).state == 'ok'


def test_a_port_that_is_taken_or_blocked_is_told():
    look = lambda index: environment.check_port(Job(2, index, ('127.0.0.1', port)), 1, seconds=0.3)
    port = free_port()
    assert 'is free' in look(0).found
    assert 'nothing listens yet' in look(1).found
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', port))
        taken.listen(0)
        found = look(0)
        assert found.state == 'fault' and f'{port} cannot be used' in found.found
        assert 'JAX_COORDINATOR_PORT' in found.fix
        assert look(1).found == f'127.0.0.1:{port} answers'
        # Once its queue is full, Linux drops what comes: as a firewall does.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(('127.0.0.1', port))
        found = look(1)
        for one in waiting:
            one.close()
    assert found.state == 'warning' and 'does not answer within 0.3 s' in found.found
    assert 'firewall' in found.fix


@pytest.mark.parametrize(
    ('error', 'state'),
    [
        (socket.gaierror(socket.EAI_NONAME, 'Name or service not known'), 'fault'),
        (socket.gaierror(socket.EAI_AGAIN, 'Temporary failure in name resolution'), 'warning'),
        (OSError(errno.EHOSTUNREACH, 'No route to host'), 'warning'),
        (OSError(errno.ENETUNREACH, 'Network is unreachable'), 'warning'),
        (OSError(errno.EADDRNOTAVAIL, 'Cannot assign requested address'), 'fault'),
    ],
    ids=lambda value: getattr(value, 'strerror', value),
)
def test_what_may_pass_on_the_way_to_the_coordinator_only_warns(error, state, monkeypatch):
    def connect(*_):
        raise error

    monkeypatch.setattr(socket, 'create_connection', connect)
    found = environment.check_port(Job(2, 1, ('h0', 8482)), 1)
    assert found.state == state and found.found == f'h0:8482: {error}'


@pytest.mark.parametrize(
    ('platform', 'chips', 'variables', 'state', 'words'),
    [
        ('cpu', 4, {'JAX_PLATFORMS': 'cpu'}, 'warning', 'unset JAX_PLATFORMS'),
        ('cpu', 4, {}, 'fault', "pip install 'jax[tpu]'"),
        ('tpu', 4, {}, 'ok', ''),
        ('tpu', 4, {'JAX_PLATFORMS': 'tpu,cpu'}, 'ok', ''),
        ('cpu', 0, {'JAX_PLATFORMS': 'cpu'}, 'ok', ''),
    ],
)
def test_idle_chips_are_told(platform, chips, variables, state, words):
    found = environment.check_platform(platform, chips, variables)
    assert found.state == state and words in found.fix


def test_little_memory_is_told_also_in_a_container(tmp_path):
    meminfo = tmp_path / 'meminfo'
    meminfo.write_text('MemTotal: 99 kB\nMemAvailable: 4194304 kB\nHugePages_Total: 0\n')
    free = lambda: resources.free_memory(meminfo, tmp_path)
    assert free() == 4 * 2**30
    for name, text in (('max', str(3 * 2**30)), ('current', str(2**31)), ('stat', 'anon 5')):
        (tmp_path / f'memory.{name}').write_text(text)
    (tmp_path / 'memory.stat').write_text(f'anon 5\ninactive_file {2**30}\nslab 3\n')
    assert free() == 2 * 2**30
    (tmp_path / 'memory.max').write_text('max')
    assert free() == 4 * 2**30
    assert resources.free_memory(tmp_path / 'none') is None


def test_few_open_files_and_small_pages_are_told(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        found = resources.check_open_files()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found.state == 'warning' and found.fix.startswith('ulimit -n ')
    pages = tmp_path / 'enabled'
    states = {}
    for mode in ('always', 'madvise', 'never'):
        pages.write_text('always madvise never'.replace(mode, f'[{mode}]'))
        states[mode] = [resources.check_huge_pages(chips, pages).state for chips in (0, 4)]
    assert states['always'] == ['ok', 'ok'] and states['never'] == ['warning', 'warning']
    assert states['madvise'] == ['ok', 'warning']


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / 'file').touch()
    assert resources.check_cache(tmp_path / 'new').state == 'ok'
    found = resources.check_cache(tmp_path / 'file' / 'cache')
    assert found.state == 'warning' and 'AUTOGUIDE_JAX_CACHE' in found.fix


def test_a_disk_too_small_for_a_checkpoint_is_a_fault(tmp_path, capsys):
    free = shutil.disk_usage(tmp_path).free
    health.check_room(tmp_path / 'not' / 'yet', 1, 2)
    assert capsys.readouterr().err == ''
    health.check_room(tmp_path, 1, 2 * free)
    assert 'checkpoints and snapshots of this run take about' in capsys.readouterr().err
    with pytest.raises(ValueError, match='one checkpoint takes .* GiB. Fix: free space'):
        health.check_room(tmp_path, 2 * free, 3 * free)
    health.check_room('gs://any/where', 2 * free, 3 * free)


@pytest.mark.parametrize('kind', ['local', 'bucket'])
def test_the_workdir_is_tried_and_left_clean(kind, tmp_path, request):
    folder = tmp_path / 'new' if kind == 'local' else None
    folder = folder or f'{request.getfixturevalue("bucket")}/{tmp_path.name}'
    mark, other = Mark(folder), Mark(folder)
    assert mark.finding.state == other.finding.state == 'ok'
    assert mark.see([mark.name, other.name]).state == 'ok'
    assert [mark.remove().state, other.remove().state] == ['ok', 'ok']
    assert not list(files.path(folder).glob('.*'))


def test_a_workdir_that_others_do_not_see_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr('autoguide_jax.health.workdir.SHARED_SECONDS', 0.1)
    here, there = Mark(tmp_path / 'here'), Mark(tmp_path / 'there')
    found = here.see([here.name, there.name])
    assert (
        found.state == 'fault'
        and 'not the same folder on all 2' in found.found
        and 'gs://' in found.fix
    )


def test_a_listing_that_is_late_only_warns(faults):  # noqa: F811
    """Whether marks are there is read, not listed; also of a mark that is gone."""
    faults.set(Fault('hide', seconds=60.0))
    mark, other = Mark('gs://bucket/late'), Mark('gs://bucket/late')
    assert mark.finding.state == 'warning' and 'not listed' in mark.finding.found
    assert mark.see([mark.name, other.name]).state == 'ok'
    assert other.remove() == other.finding
    assert mark.see([mark.name, other.name]).state == 'fault'
    health.quick('gs://bucket/late', {})


def test_what_is_deleted_and_still_listed_only_warns_unless_it_is_still_read(tmp_path, monkeypatch):
    mark = Mark(tmp_path)
    monkeypatch.setattr(Mark, '_listed', lambda self: {self.name})
    found = mark.remove()
    assert found.state == 'warning' and 'still listed' in found.found
    assert not list(tmp_path.iterdir())
    mark = Mark(tmp_path)
    monkeypatch.setattr(type(mark.workdir), 'unlink', lambda *_, **__: None)
    assert 'can still be read' in mark.remove().found and mark.finding.state == 'fault'


def test_a_bucket_that_does_not_exist_is_a_fault(bucket):  # noqa: F811
    found = Mark('gs://nobody-made-this/runs').remove()
    assert found.state == 'fault'
    assert 'gcloud storage buckets create gs://nobody-made-this' in found.fix


def test_a_workdir_that_does_not_answer_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(stop._State, 'hung', False)
    release = threading.Event()
    monkeypatch.setattr(files, 'write_bytes', lambda *_: release.wait(20))
    found = Mark(tmp_path, seconds=0.2).remove()
    release.set()
    assert found.state == 'fault' and 'no answer within 0.2 s' in found.found
    assert stop.hung()


UNWRITABLE = """
import sys
from autoguide_jax.health.workdir import Mark
print(*Mark(sys.argv[1]).remove()[1:4], sep='|')
"""


def test_a_disk_that_takes_no_more_is_a_fault(tmp_path):
    """A limit of file sizes stands for the full disk: the write itself fails."""
    command = ['bash', '-c', 'ulimit -f 0; exec "$@"', '-', sys.executable, '-c', UNWRITABLE]
    done = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.stdout.startswith('fault|') and 'ulimit -f' in done.stdout, done.stderr


@pytest.mark.parametrize(
    ('error', 'fix'),
    [
        (OSError(28, 'No space left on device'), 'free some space'),
        (PermissionError(13, 'Permission denied'), 'give another folder'),
        (OSError('Forbidden: 403'), 'Storage Object User'),
        (OSError('something else'), 'correct --workdir'),
    ],
)
def test_errors_of_disks_and_buckets_name_their_fix(tmp_path, monkeypatch, error, fix):
    def fail(*_):
        raise error

    monkeypatch.setattr(files, 'write_bytes', fail)
    found = Mark(tmp_path).remove()
    assert found.state == 'fault' and fix in found.fix


def test_the_quick_half_is_silent_or_one_line(tmp_path, capsys, monkeypatch):
    health.quick(tmp_path / 'run', {})
    assert capsys.readouterr() == ('', '')
    monkeypatch.setattr(environment, 'tpu_chips', lambda: 4)
    monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')
    verdict.say.cache_clear()
    for _ in range(2):
        health.quick(tmp_path / 'run', {})
    said = capsys.readouterr().err
    assert said.startswith('warning: platform: JAX_PLATFORMS=cpu on a host with 4 TPU chips')
    assert said.count('\n') == 1
    monkeypatch.setenv('TPU_WORKER_HOSTNAMES', 'h0,h1')
    with pytest.raises(ValueError, match='processes: 1 together, but the environment names 2'):
        health.quick(tmp_path / 'run', {})


def test_hints_come_before_hosts_wait_for_each_other(capsys, monkeypatch):
    monkeypatch.setenv('https_proxy', 'http://p:1')
    monkeypatch.delenv('no_proxy', raising=False)
    verdict.say.cache_clear()
    health.before_connecting(f'127.0.0.1:{free_port()},0,2')
    assert 'warning: proxies: https_proxy' in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        with pytest.raises(ValueError, match='cannot be used.*JAX_COORDINATOR_PORT'):
            health.before_connecting(f'127.0.0.1:{taken.getsockname()[1]},0,2')


def test_training_runs_the_quick_half_before_anything_else(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='workdir: .*A file is in the way'):
        train.main(config.parse(Settings, SMALL), tmp_path / 'file' / 'run')
