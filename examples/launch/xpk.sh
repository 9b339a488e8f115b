# CLUSTER=mine IMAGE=registry/image sh examples/launch/xpk.sh
#
# BASE on one slice of 64 chips of TPU v5e; the cluster mounts what all hosts share at /speech. Several slices: --num-slices=4.
xpk workload create \
  --cluster="$CLUSTER" --workload=wav2vec2-base --docker-image="$IMAGE" \
  --tpu-type=v5litepod-64 --num-slices=1 --max-restarts=50 \
  --command="wav2vec2 pretrain --backend=flax --preset=base-librispeech '--train=/speech/train-{000..127}.tar' --output=/speech/runs/base --resume --set=data.micro_batch_seconds=5760"
