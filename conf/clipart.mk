# The demo where npm's registry does not answer: Debian's clip art, some 6,000 pictures of 64 x 64 with their folders and names.
# `make demo` fetches them, trains the teacher from nothing (demo/run) and then runs this.
DEMO := $(WORK)/clipart-data
SHARD_DIR := $(DEMO)/shards
SHARDS := clipart-00000 clipart-00001 clipart-00002 clipart-00003 clipart-00004 clipart-00005
TEACHER := $(DEMO)/teacher
STUDENT := conf/models/emoji-3x64.json
SIZE := 48
BALANCE := --remove 0.15
K := 256
# Two students of equal cost: against the teacher, and with captions alone.
STUDENTS := student clip-only
TRAIN := --steps 400 --batch 128 --lr 1e-3 --warmup 40 --tokenizer $(HOUSE)conf/tokenizer/clip
TRAIN_student :=# distill-train's defaults: instance=1,clip=1,cluster=0.1
TRAIN_clip-only := --loss clip=1
EVAL_SETS := $(DEMO)/eval/wds_folders
NEIGHBOURS := yes
T_big := 0
