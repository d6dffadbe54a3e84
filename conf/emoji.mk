# The demo: Google's and Twitter's emoji, about 6,400 pictures of 64 x 64 with their names. `make demo` fetches them,
# trains the teacher from nothing (demo/run) and then runs this.
DEMO := $(WORK)/emoji-data
SHARD_DIR := $(DEMO)/shards
SHARDS := google-00000 google-00001 google-00002 google-00003 twitter-00000 twitter-00001 twitter-00002 twitter-00003
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
EVAL_SETS := $(DEMO)/eval/wds_heldout $(DEMO)/eval/wds_openmoji
NEIGHBOURS := yes
T_big := 0
