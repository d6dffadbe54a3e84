# LAION-400M as img2dataset writes it: 41,455 shards of 10,000 samples. Teacher ViT-bigG-14, student ViT-B-32.
LAION ?= data/laion400m
SHARD_DIR := $(LAION)
SHARDS := $(shell seq -f %05g 0 41454)
TEACHER := models/ViT-bigG-14
STUDENT := conf/models/ViT-B-32.json
CELLS := 10000
CELLS_OPTIONS := --iterations 10 --max-points 2560000
BALANCE := --remove 0.437
K := 1000000
KMEANS := --levels 2 --iterations 20
# bfloat16 where the processor or the device multiplies it, float32 elsewhere.
EMBED := --dtype auto
MEM := 64G
TRAIN := --epochs 32 --batch 32768 --lr 1e-3 --warmup 2000 --dtype auto
EVAL_SETS := $(wildcard data/eval/wds_*)
T_read := 4
T_embed := 8
# On a cluster with Slurm, conf/slurm.mk filled in (clip-cid-cluster(7)):
#   make -f pipeline.mk DATA=laion400m LAUNCH=slurm
# and with the tools built by `make CUDA=1`, DEVICE=cuda.
# With eight ranks, on one node or eight, the balance and the centroids take an eighth of the time, and the same bytes; a rank has
# 72 GB of the rows (225 M x 1280 x 2 bytes / 8), 5 GB of centroids and as much again in work, or 32 GB of the balance's arrays:
#   RANKS := 8
#   MEM := 110G
#   SBATCH_balance := -n 8 -c 16 --gpus-per-task=1 --mem-per-cpu=7500M --time=4:00:00
#   SBATCH_cluster := -n 8 -c 16 --gpus-per-task=1 --mem-per-cpu=7500M --time=4:00:00
# Training by eight ranks, a card each: 16 pieces of 2,048 pairs, and the same bytes with 2, 4 or 16 ranks. Computed for a rank: 1.9 GB of
# clusters and their moments, 8.2 GB of products with them, 1.9 GB of batches on the host. The log's line "memory" says what a piece
# takes; --accumulate 32 halves that.
#   RANKS_train := 8
#   TRAIN += --accumulate 16
#   SBATCH_train := -n 8 -c 16 --gpus-per-task=1 --mem-per-cpu=7500M --time=24:00:00
#   SBATCH_cells := -c 16 --gres=gpu:1 --mem=80G --time=4:00:00
