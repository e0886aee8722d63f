"""The verbs of the command line and its flags, as tables."""

from typing import NamedTuple

from autoguide_jax import registry


class Verb(NamedTuple):
    """One line of VERBS: targets are 'module:Attribute'; no settings means main(workdir).

    settings: a dataclass, or a function that chooses one by the tree of the config file.

    workdir: whether --workdir is needed; default_config: what --config is if left out;
    then: a verb without settings that follows on the same workdir;
    hosts: which of several connected processes run it: all, the first (the others wait), or it is
    for one host alone;
    judge: called with the result once it is printed, raises for an exit code that is not 0;
    short: settings that are flags as well, --NAME for --config.NAME.
    """

    settings: str | None
    main: str
    help: str
    example: str
    workdir: bool = True
    default_config: str | None = None
    then: str | None = None
    hosts: str = 'one'
    judge: str | None = None
    short: tuple[str, ...] = ()


def _verb(module, help, example, settings='Settings', main='main', **rest):
    settings = settings and f'autoguide_jax.{module}:{settings}'
    return Verb(settings, f'autoguide_jax.{module}:{main}', help, example, **rest)


VERBS = {
    'train': _verb(
        'train',
        'train one denoiser, or go on where it stopped',
        '--config=configs/digits.py:main --workdir=runs/digits/main',
        hosts='all',
    ),
    'sample': _verb(
        'generate',
        'write images of a main denoiser and its guides',
        '--config=configs/pair.py --config.main.run=runs/digits/main '
        '--config.guide.run=runs/digits/guide --config.guidance.weight=2.0 --workdir=out/a',
        hosts='all',
    ),
    'evaluate': _verb(
        'evaluate',
        'score a sample set, or any folder, zip or npz of images, against real ones',
        '--images=out/a --workdir=out/a',
        hosts='all',
        short=('images', 'reference'),
    ),
    'stats': _verb(
        'stats',
        'write reference statistics of real images, with which evaluate compares',
        '--images=images.zip --config.features.name=inception '
        '--config.features.weights=pt_inception-2015-12-05-6726825d.pth --target=ref.npz',
        workdir=False,
        hosts='all',
        short=('images', 'target'),
    ),
    'sweep': _verb(
        'sweep',
        'score every combination of weights, EMA lengths and intervals',
        '--config=configs/sweep.py --config.main.run=runs/digits/main '
        '--config.guide.run=runs/digits/guide --workdir=out/sweep',
        hosts='all',
    ),
    'search': _verb(
        'sweep',
        'find the best of such a grid with a tenth of its images, and score it on fresh seeds',
        '--config=configs/search.py --config.main.run=runs/digits/main '
        '--config.guide.run=runs/digits/guide --workdir=out/search',
        settings='SearchSettings',
        hosts='all',
    ),
    'guides': _verb(
        'guides',
        'rank guides for a main network and predict w, before any image is sampled',
        '--main=runs/digits/main --candidates=runs/digits/guide,runs/digits/early '
        '--reference=runs/digits/big --workdir=out/guides',
        then='report',
        short=('main', 'candidates', 'reference', 'held_out'),
    ),
    'study': _verb(
        'study',
        'train, search and score all arms of a comparison, then report',
        '--config=configs/digits.py --workdir=runs/digits',
        settings='settings_of',
        then='report',
    ),
    'reconstruct': _verb(
        'reconstruct',
        'make EMA lengths that were not tracked, after training',
        '--config.run=runs/digits/main --config.stds=0.05,0.06,…,0.10',
        workdir=False,
        hosts='first',
    ),
    'report': _verb(
        'report',
        'write the page of a study, a sweep or a search, or the figure of a ranking of guides',
        '--workdir=runs/digits',
        settings=None,
    ),
    'encode': _verb(
        'encode',
        'make a data set of latents of an image set, or go on where it stopped',
        '--config.data.name=folder --config.data.path=images.zip --config.vae=vae.safetensors '
        '--workdir=data/latents',
        hosts='all',
    ),
    'latent-stats': _verb(
        'latent_stats',
        'measure mean and deviation of latents, and the settings that follow',
        '--config.data.path=data/latents',
        workdir=False,
        hosts='first',
    ),
    'export': _verb(
        'export',
        'copy sample sets and results to a folder or a bucket',
        '--config.source=out/a --config.target=gs://bucket/a',
        workdir=False,
        hosts='first',
    ),
    'import': _verb(
        'importers.program',
        'make run directories of published network files, executing nothing in them',
        '--src=edm2-img512-s-2147483-0.070.pkl --workdir=runs/pub/s',
        hosts='first',
        short=('src',),
    ),
    'export-network': _verb(
        'importers.export',
        'write a network of a run as npz or safetensors, with the published names',
        '--config.run=runs/pub/s --config.std=0.07 --config.target=s.safetensors',
        workdir=False,
        hosts='first',
    ),
    'bench': _verb(
        'bench',
        'measure training, sampling and compilation, or (bench.py:input) the reading of images',
        '--config=configs/bench.py:net_a',
        settings='settings_of',
        workdir=False,
        hosts='all',
    ),
    'doctor': _verb(
        'doctor',
        'check hosts, devices, network and workdir before a run; faults name their fix',
        '--workdir=gs://bucket/runs --hosts=auto',
        settings=None,
        workdir=False,
        judge='autoguide_jax.doctor:judge',
        hosts='all',
    ),
    'plan': _verb(
        'plan',
        'tell what training and sampling need on a TPU slice, without a TPU',
        '--config=configs/imagenet512.py:xxl --topology=v5e:16x16',
        workdir=False,
        short=('topology', 'price'),
    ),
    'prepare': Verb(
        None,
        '',
        'make a data set ready for training',
        'fashion_mnist --source=FOLDER --data_dir=data',
        workdir=False,
    ),
}
PREPARED = registry.Registry(
    'prepare', {'fashion_mnist': 'autoguide_jax.data.fashion_mnist:prepare'}
)

FLAGS = {
    'config': 'FILE.py or FILE.py:ARG, the settings; --config.NAME=VALUE overrides one of them',
    'workdir': 'folder (local or gs://) for results; the same command resumes what is in it',
    'images': 'sample set, or any folder, zip or npz of images',
    'reference': 'file with statistics of real images, ours or a published one; several: A,B. '
    'guides: run directory of a stronger network, or exact',
    'main': 'run directory of the main network',
    'candidates': 'run directories of guides, or patterns: A,B,runs/*',
    'held_out': "settings that replace those of main's data set, as split=test",
    'target': 'file to write',
    'src': 'network file, glob, or folder of files with public names',
    'topology': 'TPU slice, as v5e:16x16',
    'price': 'price of one chip for one hour',
    'json': 'file to which the printed table is written as well',
    'hosts': 'join other hosts: auto (TPU pod, Slurm) or ADDRESS:PORT,INDEX,COUNT',
    'devices': 'devices to split the processor into, without accelerator (default: its cores, ≤ 8)',
    'dry_run': 'print the resolved settings and stop',
    'debug': 'show tracebacks and library logs',
    'help': 'show this text; with --config, the values of that file',
}
