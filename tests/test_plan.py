"""The plan: figures against published ones and real arrays, its parser, its cache, its advice."""

import math
import os
import pathlib
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest

from autoguide_jax import config, mesh, plan, train
from autoguide_jax.plan import advice, analytic, chips, compiler, figures, hlo, programs
from autoguide_jax.plan.report import Report
from autoguide_jax.run_settings import Settings
from autoguide_jax.trainer import Trainer

ROOT = pathlib.Path(__file__).parents[1]
FILE = str(ROOT / 'configs' / 'imagenet512.py')
SLICE = chips.read('v5e:2x2')
# Parameters, million, and GMAC of Karras et al. 2024, Table 6.
PUBLISHED = {'xs': (124_713_253, 45.5), 's': (280_212_837, 102.2), 'xxl': (1_523_164_773, 552.1)}
TINY = {
    'network': {
        'name': 'edm2_unet', 'resolution': 8, 'channels': 1, 'label_dim': 3, 'model_channels': 16,
        'channel_mult': [1], 'num_blocks': 1, 'attn_resolutions': [8], 'channels_per_head': 8,
    },
    'train': dict.fromkeys(
        ('total_nimg', 'batch_size', 'snapshot_nimg', 'checkpoint_nimg', 'log_nimg'), 8
    ),
}  # fmt: skip


def tiny_plan(tmp_path, **changes):
    tree = {'main': TINY, 'guide': TINY, 'topology': 'v5e:2x2', 'sample_batch': 2, 'price': 2.0}
    return config.parse(plan.Settings, {**tree, 'cache': str(tmp_path), **changes})


def find(rows, start):
    """The values of all rows whose figure starts so."""
    return [row['value'] for row in rows if row['figure'].startswith(start)]


@pytest.mark.parametrize('size', PUBLISHED)
def test_parameters_are_those_published_and_flops_within_two_percent(size):
    parameters, gmac = PUBLISHED[size]
    run = programs.Run(config.parse(Settings, config.load(f'{FILE}:{size}-main')))
    assert run.params == parameters
    # The published count has some of what is elementwise; this one, products alone.
    assert 0.98 < run.forward_flops / 2e9 / gmac < 1
    assert run.network.config['network']['dtype'] == 'bfloat16'


def test_flops_of_products_loops_and_choices_are_exact():
    image, kernel, matrix = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5)), jnp.zeros((5, 5))

    def program(x, w, m):
        y = jax.lax.conv_general_dilated(
            x, w, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
        y, _ = jax.lax.scan(lambda y, _: (jax.jit(jnp.matmul)(y, m), None), y, None, length=7)
        return jax.lax.cond(jnp.sum(y) > 0, lambda y: y @ m @ m, lambda y: y @ m, y)

    pixels = 2 * 8 * 8
    expected = 2 * pixels * (9 * 3 * 5 + 7 * 25 + 25)
    assert analytic.flops(jax.make_jaxpr(program)(image, kernel, matrix).jaxpr) == expected


def test_recomputation_is_counted_and_lowers_what_is_kept():
    run = programs.Run(config.parse(Settings, TINY))
    kept = [run.activations(remat) for remat in ('none', 'products', 'block')]
    assert kept[0] > kept[1] > kept[2] > 0
    step = lambda remat: run.changed(**{'network.remat': remat}).step(jax.devices()[:1])
    none, products, block = (
        analytic.flops(step(remat).jaxpr.jaxpr) for remat in ('none', 'products', 'block')
    )
    forward = 8 * run.forward_flops
    assert 2.8 * forward < none < 3.2 * forward
    # The weights of the attention are always done again, and are no more than that.
    assert none == products < 3 * forward + 0.15 * forward
    assert 0.8 * forward < block - none < forward


@pytest.mark.parametrize('shards', [1, 2])
def test_bytes_of_a_device_are_those_it_really_holds(shards, monkeypatch):
    monkeypatch.setattr(mesh, 'SMALLEST_SPLIT', 64)
    settings = config.parse(Settings, TINY)
    devices = mesh.over(jax.devices()[:2], shards)
    trainer = Trainer(settings, config.resolved(settings), devices)
    state = jax.jit(trainer.fresh, out_shardings=trainer.shardings)(trainer.seeds)
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    assert analytic.shard_bytes(trainer.abstract, shards) == held
    assert analytic.tree_bytes(trainer.abstract) == sum(x.nbytes for x in jax.tree.leaves(state))
    assert 0 < analytic.whole_share(trainer.abstract, 2) < 0.5


def test_collectives_of_a_real_program_on_eight_devices():
    environ = {**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_NUM_CPU_DEVICES': '8'}
    command = [sys.executable, str(ROOT / 'tests' / 'on_eight.py')]
    text = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    gather, reduce = hlo.collectives(text)
    whole = 64 * 64 * 4
    assert gather == {
        'kind': 'all-gather', 'group': 4, 'count': 5, 'bytes': 5 * whole,
        'wire_bytes': 5 * whole * 3 / 4,
    }  # fmt: skip
    total = 64 * 4
    assert reduce == {
        'kind': 'all-reduce', 'group': 8, 'count': 1, 'bytes': total,
        'wire_bytes': 2 * total * 7 / 8,
    }  # fmt: skip
    assert hlo.traffic(text)['bytes'] > 5 * 2 * whole


@pytest.mark.parametrize(
    ('text', 'size'),
    [
        ('all-reduce(%x), replica_groups={{0,1,2},{3,4,5}}, to_apply=%add', 3),
        ('all-gather(%x), replica_groups=[16,16]<=[256], dimensions={0}', 16),
        ("all-reduce(%x), replica_groups=mesh['a'=4,'b'=2] {'a','b'}, to_apply=%add", 8),
        ("all-gather(%x), replica_groups=mesh['a'=8], device_ids=([8]) {'a':(1)2}, x={0}", 2),
        ('collective-permute(%x), source_target_pairs={{0,1},{1,0}}', 2),
    ],
)
def test_groups_are_read_in_every_way_they_are_written(text, size):
    assert hlo.group_size(text) == size


def test_shapes_have_bytes_and_a_place():
    shape = '(f32[8,128]{1,0:T(8,128)}, bf16[4]{0:T(128)S(1)}, u32[], s32[2]{0})'
    assert hlo.shape_bytes(shape) == 4096 + 8 + 4 + 8
    assert hlo.shape_bytes(shape, 0) == 4096 + 4 + 8
    assert hlo.split_shape(f'{shape} tuple(%a, %b)') == (shape, 'tuple(%a, %b)')


HLO = """
%inside (p: f32[8,128]) -> f32[8,128] {
  ROOT %sine.1 = f32[8,128]{1,0} sine(%p)
}

ENTRY %main (a: f32[64,128]) -> f32[8,128] {
  %a = f32[64,128]{1,0:T(8,128)} parameter(0)
  %slice-start.1 = ((f32[64,128]{1,0:T(8,128)}), f32[8,128]{1,0:T(8,128)S(1)}, s32[]{S(2)}) \
slice-start(%a), slice={[0:8], [0:128]}
  %slice-done.1 = f32[8,128]{1,0:T(8,128)S(1)} slice-done(%slice-start.1)
  %fusion.1 = f32[8,128]{1,0:T(8,128)} fusion(%slice-done.1), kind=kLoop, calls=%inside
  ROOT %copy.1 = f32[8,128]{0,1:T(8,128)} copy(%fusion.1)
}
"""


def test_traffic_is_what_passes_the_border_of_the_main_memory():
    piece = 8 * 128 * 4
    # A slice is fetched, the fusion writes its result, the copy reads and writes one.
    expected = {'bytes': (1 + 1 + 2) * piece, 'copies': 2 * piece, 'unknown_loops': 0}
    assert hlo.traffic(HLO) == expected


# Of the XXL step that libtpu 0.0.42.1 made for v5e:16x16; groups, layouts and metadata are cut.
ASYNC = """
%fused_computation.13104 (param_0.39854: bf16[112,1792]) -> (bf16[112,1792], bf16[1792,1792]) {
  %param_0.39854 = bf16[112,1792]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %all-gather.3555 = bf16[1792,1792]{1,0:T(8,128)(2,1)} all-gather(%param_0.39854), \
channel_id=900, replica_groups=mesh['axis_0'=16,'axis_1'=1,'axis_2'=16], \
device_ids=([16,16]T(1,0)) {'axis_0'}, dimensions={0}, frontend_attributes={chain_id="222"}
  ROOT %custom-call.895 = (bf16[112,1792]{1,0:T(8,128)(2,1)S(1)}, \
bf16[1792,1792]{1,0:T(8,128)(2,1)S(1)}) custom-call(%all-gather.3555), \
custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.9485 (param_0.39858: bf16[112,1792]) -> bf16[1792,1792] {
  %param_0.39858 = bf16[112,1792]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  ROOT %all-gather.3557 = bf16[1792,1792]{1,0:T(8,128)(2,1)S(1)} all-gather(%param_0.39858), \
channel_id=900, replica_groups=mesh['axis_0'=16,'axis_1'=1,'axis_2'=16], \
device_ids=([16,16]T(1,0)) {'axis_0'}, dimensions={0}, frontend_attributes={chain_id="222"}
}

%all-reduce-scatter.79 (input.79: bf16[1792,3,1792]) -> bf16[1792,3,112] {
  %input.79 = bf16[1792,3,1792]{0,2,1:T(8,128)(2,1)S(1)} parameter(0)
  %all-reduce.1227 = bf16[1792,3,1792]{0,2,1:T(8,128)(2,1)} all-reduce(%input.79), \
channel_id=1119, replica_groups={{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}}, to_apply=%add.244.clone
  %constant.9000 = u32[] constant(0)
  ROOT %dynamic-slice.1218 = bf16[1792,3,112]{0,2,1:T(8,128)(2,1)} dynamic-slice(\
%all-reduce.1227, %constant.9000, %constant.9000, %constant.9000), dynamic_slice_sizes={1792,3,112}
}

ENTRY %main (a: bf16[112,1792], b: bf16[1792,3,1792], c: bf16[240,1792]) -> bf16[1792,3,112] {
  %a = bf16[112,1792]{1,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[1792,3,1792]{0,2,1:T(8,128)(2,1)} parameter(1)
  %c = bf16[240,1792]{1,0:T(8,128)(2,1)} parameter(2)
  %async-collective-start.222 = (bf16[112,1792]{1,0:T(8,128)(2,1)S(1)}, \
bf16[1792,1792]{1,0:T(8,128)(2,1)S(1)}) fusion(%a), kind=kCustom, calls=%fused_computation.13104
  %fusion.9485 = bf16[1792,1792]{1,0:T(8,128)(2,1)S(1)} fusion(%a), kind=kCustom, \
calls=%async_collective_fusion.9485
  %collective-permute-start.22 = (bf16[240,1792]{1,0:T(8,128)(2,1)S(1)}, \
bf16[240,1792]{1,0:T(8,128)(2,1)S(1)}) collective-permute-start(%c), channel_id=1, \
source_target_pairs={{0,1},{1,2}}
  %collective-permute-start.21 = (bf16[240,1792]{1,0:T(8,128)(2,1)S(1)}, \
bf16[240,1792]{1,0:T(8,128)(2,1)S(1)}) collective-permute-start(%c), channel_id=1, \
source_target_pairs={{0,1},{1,2}}
  ROOT %fusion.79 = bf16[1792,3,112]{0,2,1:T(8,128)(2,1)} fusion(%b), kind=kCustom, \
calls=%all-reduce-scatter.79
}
"""


def test_collectives_of_a_tpu_count_once_and_by_what_they_are():
    found = {one.pop('kind'): one for one in hlo.collectives(ASYNC)}
    gathered, reduced, moved = 1792 * 1792 * 2, 1792 * 3 * 1792 * 2, 2 * 240 * 1792 * 2
    assert found == {
        'reduce-scatter': {
            'group': 16, 'count': 1, 'bytes': reduced, 'wire_bytes': reduced * 15 / 16,
        },
        'all-gather': {
            'group': 16, 'count': 1, 'bytes': gathered, 'wire_bytes': gathered * 15 / 16,
        },
        # Two, though they share a channel.
        'collective-permute': {'group': 2, 'count': 2, 'bytes': moved, 'wire_bytes': moved},
    }  # fmt: skip


@pytest.mark.parametrize(('limit', 'trips'), [('constant(63)', 63), ('parameter(1)', None)])
def test_a_loop_runs_as_often_as_its_condition_allows(limit, trips):
    text = f"""
%condition (arg: (s32[])) -> pred[] {{
  %limit.1 = s32[]{{:T(128)}} {limit}
  %arg = (s32[]{{:T(128)}}) parameter(0)
  %counter.1 = s32[]{{:T(128)}} get-tuple-element(%arg), index=0
  ROOT %less.1 = pred[]{{:T(512)}} compare(%counter.1, %limit.1), direction=LT
}}
"""
    found, _ = hlo.computations(text)
    assert hlo.trips('while(%tuple), condition=%condition, body=%body', found) == trips


def lowered(n=4):
    return jax.jit(lambda x: jnp.sin(x) @ x).lower(jax.ShapeDtypeStruct((n, n), jnp.float32))


def test_what_was_compiled_once_is_read_back(tmp_path, monkeypatch):
    settings = tiny_plan(tmp_path)
    first = compiler.compile(lowered(), SLICE, settings, 'a product')
    assert first['fits'] and not first['cached'] and first['memory']['arguments'] == 64
    monkeypatch.setattr(compiler, 'findings', lambda compiled: pytest.fail('compiled again'))
    again = compiler.compile(lowered(), SLICE, settings, 'a product')
    assert again.pop('cached') and not first.pop('cached')
    assert again == first
    text = lowered().as_text()
    keys = {compiler.key(text, SLICE, effort) for effort in (-1, -1.0, 0.0)}
    keys.add(compiler.key(lowered(5).as_text(), SLICE, -1.0))
    keys.add(compiler.key(text, chips.read('v5e:2x4'), -1.0))
    for name in ('LIBTPU_INIT_ARGS', 'XLA_FLAGS'):
        with monkeypatch.context() as patch:
            patch.setenv(name, '--xla_other=true')
            keys.add(compiler.key(text, SLICE, -1.0))
    monkeypatch.setattr(compiler, 'version', lambda: '9.9')
    keys.add(compiler.key(text, SLICE, -1.0))
    assert len(keys) == 7


def test_effort_is_that_of_the_plans_own_compilations(tmp_path):
    asked, program = [], lowered()

    def compile(compiler_options):
        asked.append(compiler_options)
        return program.compile(compiler_options)

    recorded = types.SimpleNamespace(as_text=program.as_text, compile=compile)
    for effort in (-1.0, 0.0, -1.0):
        settings = tiny_plan(tmp_path, effort=effort)
        found = compiler.compile(recorded, SLICE, settings, 'a product')
    assert [options['exec_time_optimization_effort'] for options in asked] == [-1.0, 0.0]
    assert found['cached'], 'the other effort has a finding of its own'
    assert jax.config.jax_exec_time_optimization_effort == 0
    notes = [Report(SLICE, '9.9', tiny_plan(tmp_path, effort=e)).note for e in (-0.5, 0.0)]
    assert 'with effort -0.5; a run compiles with effort 0' in notes[0]
    assert notes[1].endswith('with effort 0')


def test_a_refusal_for_want_of_memory_is_a_finding_and_any_other_an_error():
    said = (
        'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO '
        'temporaries (53.67G) exceeds available HBM (15.75G).'
    )
    found = compiler.too_large(said)
    assert not found['fits'] and found['needed'] == 53.67 * 2**30
    assert found['counted'] == 'temporaries'
    assert found['available'] == 15.75 * 2**30
    found = compiler.too_large('Used 18.2G of 15.75G hbm. Exceeded')
    assert found['needed'] == 18.2 * 2**30 and found['counted'] == 'all'
    with pytest.raises(RuntimeError, match='INTERNAL: something else'):
        compiler.too_large('INTERNAL: something else')


MODEL = advice.Model(
    arguments={1: 10.0, 4: 2.5},
    activations={'none': 4.0, 'products': 2.0, 'block': 1.0},
    gradient={1: 2.0, 4: 0.5},
)
NOW = advice.Option(1, 'none', 8)


@pytest.mark.parametrize(
    ('available', 'expected'),
    [
        (44.0, NOW),
        (36.0, advice.Option(4, 'none', 8)),
        (30.0, advice.Option(1, 'none', 4)),
        (20.0, advice.Option(4, 'none', 4)),
        (11.5, advice.Option(4, 'none', 2)),
        (3.0, None),
    ],
)
def test_the_smallest_change_that_fits(available, expected):
    found = advice.smallest(MODEL, NOW, available)
    assert found == expected
    if found:
        assert MODEL.need(found) <= available


def test_a_compiler_corrects_the_estimate():
    corrected = MODEL.calibrated(NOW, temporaries=17.0)
    assert corrected.temporaries(NOW) == pytest.approx(17.0)
    assert corrected.need(advice.Option(1, 'block', 8)) == pytest.approx(10 + 5.0)
    assert advice.words(advice.Option(4, 'products', 2), NOW, 16) == {
        'mesh.params': 'fsdp', 'mesh.shards': 4, 'network.remat': 'products',
        'train.microbatch_size': 32,
    }  # fmt: skip


@pytest.mark.parametrize(
    ('counted', 'total', 'temporaries', 'source'),
    [('temporaries', 40.0, 30.0, 'compiler, analytic'), ('all', 30.0, 20.0, 'compiler')],
)
def test_a_refusal_counts_arguments_once(counted, total, temporaries, source):
    found = {'fits': False, 'counted': counted, 'needed': 30.0, 'available': 16.0}
    assert figures.calibrated(MODEL, NOW, found).temporaries(NOW) == pytest.approx(temporaries)
    gigabytes = {**found, 'needed': 30e9, 'available': 16e9}
    needed, available = figures.compiled_rows(gigabytes, 1.0, arguments=10e9)
    assert (needed['value'], needed['from'], available['value']) == (total, source, 16.0)


def test_a_step_that_does_not_fit_gets_a_command_that_does():
    settings = config.parse(Settings, config.load(f'{FILE}:xs-main'))
    topology = chips.read('v6e:2x4')
    run = programs.Run(settings)
    model, now = figures.model_of(run, topology), figures.option_of(run, topology)
    said = plan.suggestion('main', model, now, topology, None)
    assert 'does not fit' in said and 'estimate' in said
    name, value = said.split('--config.main.')[1].split(' ')[0].split('=')
    changed = run.changed(**{name: value})
    assert (
        plan.suggestion('main', model, figures.option_of(changed, topology), topology, None)[:4]
        == 'fits'
    )


def test_the_roofline_is_its_longest_term_but_memory_which_is_an_upper_bound():
    found = {'fits': True, 'traffic': {'bytes': 819e9}, 'collectives': [{'wire_bytes': 50e9}]}
    terms = figures.roofline(SLICE.chip, 197e12 / 2, found)
    assert terms == {'compute': 0.5, 'memory': 1.0, 'network': 0.25, 'bound': 0.5}
    rows = figures.roofline_rows(terms, 197e12 / 4, SLICE.chip, 'step')
    assert find(rows, 'MFU') == [50.0] and find(rows, 'step at least (compute)') == [500.0]
    assert find(rows, 'step: memory, at most') == [1000.0]
    found['collectives'] *= 3
    assert figures.roofline(SLICE.chip, 197e12 / 2, found)['bound'] == 0.75


def test_without_the_compiler_all_but_its_figures_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, 'version', lambda: None)
    report = plan.main(tiny_plan(tmp_path))
    assert 'libtpu' in report.text and 'not compiled' in report.text
    assert list(report['programs']) == ['train main', 'train guide', 'sample']
    rows = report['programs']['train main']['rows']
    assert {row['from'] for row in rows} == {'analytic', 'published', 'roofline'}
    assert not find(rows, 'temporaries') and find(rows, 'arguments, replicated')
    assert find(report['programs']['sample']['rows'], 'overhead of the guide') == [100.0]
    steps, hours, chip_hours = (find(rows, name)[0] for name in ('steps', 'hours', 'chip-hours'))
    assert steps == 1 and chip_hours == pytest.approx(4 * hours, rel=1e-3)
    assert find(rows, 'price')[0] == pytest.approx(2 * chip_hours, rel=1e-3)
    assert not list(tmp_path.iterdir())
    assert jax.config.jax_exec_time_optimization_effort == 0, 'of this process, as it was'


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'topology': 'v5e'}, r"topology \('v5e'\) must look like v5e:16x16"),
        ({'topology': 'v9:2x2'}, r"unknown chip 'v9'"),
        ({'topology': 'v4:4x4'}, r'slices of v4 have 3 sides'),
        ({'topology': 'v5e:4x4'}, r'main.train.batch_size \(8\) must be a multiple of the 16'),
        ({'main': {**TINY, 'mesh': {'params': 'fsdp', 'shards': 3}}}, r'main.mesh.shards \(3\)'),
        ({'price': -1.0}, r'price \(-1.0\)'),
        ({'effort': 0.5}, r'effort \(0.5\) must be from -1 to 0'),
        ({'effort': -1.5}, r'effort \(-1.5\) must be from -1 to 0'),
    ],
)
def test_plans_that_cannot_be_made_are_refused_at_once(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tiny_plan(tmp_path, **changes)


def test_a_network_that_leaves_its_sizes_to_the_data_is_refused(tmp_path):
    network = {k: v for k, v in TINY['network'].items() if k != 'label_dim'}
    with pytest.raises(ValueError, match=r'guide.network.label_dim: a plan has no data set'):
        plan.main(tiny_plan(tmp_path, guide={**TINY, 'network': network}))


def test_training_without_data_says_so(tmp_path):
    tree = config.load(f'{FILE}:s-guide', [('data', 'none')], Settings)
    settings = config.parse(Settings, tree)
    with pytest.raises(ValueError, match='data .none.: .*are made by .encode'):
        train.main(settings, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('old', [False, True])
def test_a_run_from_before_the_policies_of_remat_goes_on(old, tmp_path):
    settings = config.parse(Settings, {'network': {'name': 'edm2_unet', 'remat': old}})
    tree = config.resolved(settings)
    train.claim(tmp_path, tree, 0)
    new = {**tree, 'network': {**tree['network'], 'remat': 'block' if old else 'none'}}
    train.claim(tmp_path, new, 0)
    run = programs.Run(
        config.parse(Settings, {**TINY, 'network': {**TINY['network'], 'remat': old}})
    )
    assert run.denoiser.backbone.remat == ('block' if old else 'none')


def test_every_slice_knows_its_hosts():
    hosts = {
        'v5e:16x16': (64, 4), 'v5p:4x4x4': (16, 4), 'v6e:2x4': (1, 8), 'v5e:2x4': (1, 8),
        'v6e:4x4': (4, 4), 'v4:2x2x2': (2, 4), 'v4:2x2x1': (1, 4), 'v5e:1x1': (1, 1),
    }  # fmt: skip
    slices = {name: chips.read(name) for name in hosts}
    assert {name: (one.hosts, one.per_host) for name, one in slices.items()} == hosts
    assert all(math.isfinite(chip.flops * chip.hbm) for chip in chips.CHIPS.values())


@pytest.mark.skipif(compiler.version() is None, reason='needs libtpu: pip install "jax[tpu]"')
def test_the_tpu_compiler_says_what_a_tiny_pair_needs(tmp_path):
    split = {**TINY, 'mesh': {'params': 'fsdp', 'shards': 4}}
    report = plan.main(tiny_plan(tmp_path, main=split, guide=None))
    found = report['programs']['train main']['compiled']
    assert found['fits'] and found['memory']['temporaries'] > 0
    assert 'all-reduce' in {one['kind'] for one in found['collectives']}
    assert 'fits (the compiler says so)' in report.text
    again = plan.main(tiny_plan(tmp_path, main=split, guide=None))
    assert all(program['compiled']['cached'] for program in again['programs'].values())
