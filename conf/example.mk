# A data set of your own: copy this file to conf/NAME.mk, run `make -f pipeline.mk DATA=NAME`.

# WebDataset shards: SHARD_DIR/NAME.tar for each NAME in SHARDS. The list is written down, not globbed, so that
# a shard that got lost is noticed.
SHARD_DIR := data/example
SHARDS := $(shell seq -f %05g 0 9)

# The teacher: a folder with open_clip_config.json, open_clip_model.safetensors and the tokenizer's files.
# SIZE is its image size.
TEACHER := models/ViT-L-14
SIZE := 224

# Balance: coarse cells (1 compares every pair; about one for each 1000 samples otherwise), and either a
# cosine distance or the share to remove.
CELLS := 100
BALANCE := --distance 0.1
# BALANCE := --remove 0.437
# BALANCE := --distance 0.1 --min-score 0.2 --survivor score

# Clusters: about one for each 225 samples.
K := 500

# The student, and how to train it (distill-train(1)).
STUDENT := conf/models/ViT-B-32.json
TRAIN := --epochs 32 --batch 1024 --lr 1e-3 --warmup 500

# Evaluation sets in CLIP_benchmark's layout, and zs-eval's options.
EVAL_SETS := data/eval/wds_imagenet1k
EVAL :=

# Memory ceiling of balance and clustering; threads for a target of each class.
MEM := 8G
T_read := 1
T_embed := 4
T_big := 0
