"""Compiled programs read as text: traffic, loops, memory; on a written one and on those of 8 simulated devices."""

import ast
import os
import subprocess
import sys

import pytest

from wav2vec2_flax.hlo import BETWEEN_SLICES, read_program

TEXT = """\
HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%inside (p: bf16[4,8]) -> bf16[4,8] {
  %p = bf16[4,8]{1,0} parameter(0)
  ROOT %twice = bf16[4,8]{1,0} multiply(%p, %p)
}

%body (state: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %state = (s32[], bf16[4,8]{1,0}) parameter(0)
  %layer = bf16[4,8]{1,0} get-tuple-element(%state), index=1
  %fused = bf16[4,8]{1,0} fusion(%layer), kind=kLoop, calls=%inside
  %gathered = bf16[16,8]{1,0} all-gather(%fused), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %next = (s32[], bf16[4,8]{1,0}) tuple(%layer, %fused)
}

%condition (state.1: (s32[], bf16[4,8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %state.1 = (s32[], bf16[4,8]{1,0}) parameter(0)
  %number = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%number, %limit), direction=LT
}

ENTRY %main (a: bf16[4,8], b: f32[10]) -> f32[10] {
  %a = bf16[4,8]{1,0} parameter(0)
  %b = f32[10]{0} parameter(1)
  %zero = s32[] constant(0)
  %start = (s32[], bf16[4,8]{1,0}) tuple(%zero, %a)
  %loop = (s32[], bf16[4,8]{1,0}) while(%start), condition=%condition, body=%body
  %near = f32[10]{0:T(256)S(1)} copy(%b)
  %total = f32[10]{0} all-reduce(%near), channel_id=2, replica_groups={{0,4},{1,5},{2,6},{3,7}}, to_apply=%add
  %part = f32[5]{0} reduce-scatter(%b), channel_id=3, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  %moving = (f32[10]{0}, f32[10]{0}, u32[], u32[]) collective-permute-start(%b), source_target_pairs={{0,1}}
  %moved = f32[10]{0} collective-permute-done(%moving)
  %out = (f32[10]{0}, u32[], token[]) send(%b, %after), channel_id=5, frontend_attributes={_h="xla_megascale_runtime"}
  ROOT %result = f32[10]{0} add(%total, %moved)
}
"""


def test_traffic_is_counted_as_often_as_loops_run():
    found = {one.kind: one for one in read_program(TEXT, 8).collectives}
    gather = found["all-gather"]
    assert (gather.bytes, gather.times, gather.groups) == (256, 12, ((0, 1, 2, 3), (4, 5, 6, 7)))
    assert gather.sent == 12 * 256 * 3 / 4
    reduce = found["all-reduce"]
    assert (reduce.bytes, reduce.times, reduce.groups[1], reduce.sent) == (40, 1, (1, 5), 40.0)
    assert (found["reduce-scatter"].bytes, found["reduce-scatter"].sent) == (40, 20.0)
    assert found["collective-permute"].sent == 40.0
    assert found[BETWEEN_SLICES].sent == 40.0
    assert len(found) == 5


def test_memory_counts_what_lies_there_and_not_what_is_inside_of_an_instruction():
    layer, vector = 64, 40
    in_the_loop = 12 * (2 * layer + layer + 256 + 1 + 4 + 4)  # a fusion, what gathers, and the comparison of numbers
    after = (
        vector  # the copy into a cache reads
        + vector  # its sum over devices is written: what it reads is in the cache
        + (vector + vector // 2)
        + (2 * vector + 8 + vector)
        + 3 * vector
    )
    assert read_program(TEXT, 8).moved == in_the_loop + after


SCATTERED = """\
%all-reduce-scatter.1 (p: bf16[32,8]) -> bf16[8,8] {
  %p = bf16[32,8]{1,0} parameter(0)
  %sum = bf16[32,8]{1,0} all-reduce(%p), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
  %number = u32[] partition-id()
  %zero = u32[] constant(0)
  ROOT %own = bf16[8,8]{1,0} dynamic-slice(%sum, %number, %zero), dynamic_slice_sizes={8,8}
}

ENTRY %main (a: bf16[32,8]) -> bf16[8,8] {
  %a = bf16[32,8]{1,0} parameter(0)
  ROOT %part = bf16[8,8]{1,0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


def test_a_sum_of_which_each_chip_keeps_a_slice_is_scattered():
    (found,) = read_program(SCATTERED, 4).collectives
    assert (found.kind, found.bytes, found.groups, found.sent) == ("reduce-scatter", 512, ((0, 1, 2, 3),), 384.0)


SLICES = """\
%taken (p: bf16[12,4,8], i: s32[]) -> bf16[4,8] {
  %p = bf16[12,4,8]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %piece = bf16[1,4,8]{2,1,0} dynamic-slice(%p, %i, %i, %i), dynamic_slice_sizes={1,4,8}
  ROOT %flat = bf16[4,8]{1,0} bitcast(%piece)
}

%put (q: bf16[12,4,8], r: bf16[4,8], j: s32[]) -> bf16[12,4,8] {
  %q = bf16[12,4,8]{2,1,0} parameter(0)
  %r = bf16[4,8]{1,0} parameter(1)
  %j = s32[] parameter(2)
  %shaped = bf16[1,4,8]{2,1,0} bitcast(%r)
  ROOT %changed = bf16[12,4,8]{2,1,0} dynamic-update-slice(%q, %shaped, %j, %j, %j)
}

ENTRY %main (all: bf16[12,4,8], index: s32[]) -> bf16[12,4,8] {
  %all = bf16[12,4,8]{2,1,0} parameter(0)
  %index = s32[] parameter(1)
  %one = bf16[4,8]{1,0} fusion(%all, %index), kind=kLoop, calls=%taken
  ROOT %after = bf16[12,4,8]{2,1,0} fusion(%all, %one, %index), kind=kLoop, calls=%put
}
"""


def test_of_an_array_of_all_layers_only_the_slice_of_one_is_moved():
    layer, number = 64, 4
    assert read_program(SLICES, 1).moved == 2 * (2 * layer + number)


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from wav2vec2_flax.hlo import read_program
mesh = Mesh(np.array(jax.devices()), ("data",))
def step(w, x):
    return w - jax.grad(lambda w: jnp.square(x @ w).sum())(w)
w = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=NamedSharding(mesh, P()))
x = jax.ShapeDtypeStruct((128, 64), jnp.float32, sharding=NamedSharding(mesh, P("data")))
text = jax.jit(step, out_shardings=NamedSharding(mesh, P())).lower(w, x).compile().as_text()
print([(one.kind, one.bytes, one.times, one.groups) for one in read_program(text, 8).collectives])
"""


@pytest.mark.slow
def test_gradients_of_copies_are_summed_once():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    assert ast.literal_eval(done.stdout) == [("all-reduce", 64 * 32 * 4, 1, (tuple(range(8)),))]
