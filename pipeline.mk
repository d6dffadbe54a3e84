# The data pipeline, a graph of files:  make -f pipeline.mk DATA=NAME [-j N] [-k] [-n] [STAGE | FILE]
# conf/NAME.mk describes the data set; everything made stands in work/NAME/. `help` lists the stages.
#
# Each file appears whole or not at all, so a run that was stopped, killed or failed is taken up by
# running make again. Parameters are files too (params/), so a change redoes what depends on it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += -rR --warn-undefined-variables
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := all
FORCE:

ifeq ($(origin DATA),undefined)
$(error say which data set: make -f pipeline.mk DATA=NAME, NAME one of: $(patsubst conf/%.mk,%,$(wildcard conf/*.mk)))
endif
WORK ?= work
CONF ?= conf/$(DATA).mk
W := $(WORK)/$(DATA)

# ---- what a conf file may set, with the defaults

BIN ?= bin
SHARD_DIR :=# folder of the tar files
SHARDS :=# their names without .tar
TEACHER :=# model folder
STUDENT :=# config of the student, conf/models/NAME.json
STUDENTS := student# models to train; TRAIN_NAME adds to TRAIN
SIZE := 224# pixels a side, the teacher's
CELLS := 1# coarse cells of the balance; 1 = every pair
CELLS_OPTIONS := --iterations 10
BALANCE := --distance 0.1
PROBE := 4
K := 1000
KMEANS := --iterations 20
ASSIGN :=# of the labels; they are the same bytes on any device
TRAIN := --epochs 1
TRAIN_SIZE = $(SIZE)
SHUFFLE := 5000
SEED := 1
EVAL_SETS :=
EVAL :=
EMBED := --dtype f32
MEM := 2G
# Threads a target, and what to put before a command (srun, mpirun), by class of work.
T_read := 1
T_embed := 1
T_big := 0
RUN_cpu :=
RUN_gpu :=
RUN_train :=
include $(CONF)
$(foreach s,$(STUDENTS),$(eval TRAIN_$(s) ?=))

# ---- files

INDEX := $(SHARDS:%=$(W)/index/%.tsv)
IMAGE := $(SHARDS:%=$(W)/embed/image/%.npy)
TEXT := $(SHARDS:%=$(W)/embed/text/%.npy)
KEEP := $(W)/balance.json# written last; keep/ and groups/ are full once it is there
LABELS := $(SHARDS:%=$(W)/labels/%.npy)
MODELS := $(STUDENTS:%=$(W)/%/open_clip_config.json)
RESULTS := $(STUDENTS:%=$(W)/eval/%.json) $(W)/eval/teacher.json
TEACHER_CONFIG := $(firstword $(wildcard $(TEACHER)/open_clip_config.json $(TEACHER)/config.json) $(TEACHER)/open_clip_config.json)
# A shard that is not there yet has no prerequisite: its stage marks it and goes on. Once it is there
# the mark makes its index old.
HERE := $(patsubst $(SHARD_DIR)/%.tar,%,$(wildcard $(SHARD_DIR)/*.tar))
ARRIVED := $(filter $(patsubst $(W)/index/%.missing,%,$(wildcard $(W)/index/*.missing)),$(HERE))
PRESENT := $(filter $(HERE),$(SHARDS))

LOG = scripts/logged $(W)/log/$(patsubst $(W)/%,%,$@).log

# ---- one run at a time in a folder; LOCK=no for jobs that each make files of their own

MAKECMDGOALS ?=
LOCK ?= yes
LOCKED ?= no
DRY := $(findstring n,$(firstword -$(MAKEFLAGS)))
PLAIN := $(if $(DRY)$(filter no,$(LOCK))$(filter yes,$(LOCKED)),yes,)
QUESTIONS := help status clean-tmp
ifeq ($(PLAIN)$(filter $(QUESTIONS),$(MAKECMDGOALS)),)
.PHONY: locked $(MAKECMDGOALS)
$(or $(MAKECMDGOALS),all): locked ;
locked:
	@mkdir -p $(W)
	@flock -n -E 75 $(W)/.lock $(MAKE) --no-print-directory -f pipeline.mk DATA=$(DATA) CONF=$(CONF) WORK=$(WORK) BIN=$(BIN) LOCKED=yes $(MAKECMDGOALS) || \
	  { s=$$?; [ $$s != 75 ] || echo "another run is at work in $(W)" >&2; exit $$s; }
else

## all: every stage, then the report
all: report
## index: what is in each shard, sample by sample
index: $(INDEX)
## embed: the teacher's embeddings of pictures and captions
embed: $(IMAGE) $(TEXT)
## balance: which samples stay
balance: $(KEEP)
## cluster: centroids, and a label for each sample
cluster: $(LABELS)
## train: the students
train: $(MODELS)
## eval: teacher and students on the evaluation sets
eval: $(RESULTS)
## report: one page about everything; fails when the ledger does not add up or a shard is damaged
report: $(W)/report.html
	@scripts/verdict $(W)
.PHONY: all index embed balance cluster train eval report help status clean-tmp

# ---- parameters: a file that is made again when its text is another

$(W)/params:
	@mkdir -p $@
# $(call stamp,name,text)
define stamp
ifneq ($$(strip $$(file <$(W)/params/$(1))),$$(strip $(2)))
$(W)/params/$(1): FORCE
endif
$(W)/params/$(1): | $(W)/params
	@printf '%s\n' '$(strip $(2))' >$$@.new && mv $$@.new $$@
endef
$(eval $(call stamp,embed,1 $(TEACHER) $(SIZE) $(EMBED)))
$(eval $(call stamp,cells,1 $(CELLS) $(CELLS_OPTIONS) $(SEED)))
$(eval $(call stamp,balance,1 $(BALANCE) $(PROBE)))
$(eval $(call stamp,cluster,1 $(K) $(KMEANS) $(SEED)))
$(foreach s,$(STUDENTS),$(eval $(call stamp,train-$(s),1 $(STUDENT) $(TRAIN) $(TRAIN_$(s)) $(TRAIN_SIZE) $(SHUFFLE) $(SEED))))
$(eval $(call stamp,eval,1 $(EVAL_SETS) $(EVAL)))
# The list of shards is one too. It is too long for a command line, so make itself writes it; a dry
# run must not.
ifneq ($(strip $(file <$(W)/params/shards)),$(strip $(SHARDS)))
$(W)/params/shards: FORCE
endif
$(W)/params/shards: | $(W)/params
	@$(if $(DRY),,$(file >$@.new,$(strip $(SHARDS))))mv $@.new $@
$(W)/params/images.list: $(W)/params/shards
	@tr ' ' '\n' <$< | sed -n 's|..*|$(W)/embed/image/&.npy|p' >$@.new && mv $@.new $@

# Programs that are not built yet are; newer ones do not make data old.
PROGRAMS := $(addprefix $(BIN)/,shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report)
$(PROGRAMS):
	make -f Makefile $@

# A conf file may have a rule that makes the teacher (conf/emoji.mk); otherwise it has to be there.
ifndef TEACHER_RULE
$(TEACHER_CONFIG):
	@echo "no teacher: '$(TEACHER)' is not a model folder" >&2; exit 1
endif

# ---- stages, a shard at a time

$(PRESENT:%=$(W)/index/%.tsv): $(W)/index/%.tsv: $(SHARD_DIR)/%.tar
$(ARRIVED:%=$(W)/index/%.tsv): FORCE
$(INDEX): $(W)/index/%.tsv: | $(BIN)/shard-read
	@mkdir -p $(@D)
	$(LOG) $(RUN_cpu) scripts/index-shard $(BIN) $(SHARD_DIR)/$*.tar $@ -t $(T_read)

$(W)/embed/image/%.npy $(W)/embed/text/%.npy: $(W)/index/%.tsv $(W)/params/embed $(TEACHER_CONFIG) | $(BIN)/teacher-embed
	@mkdir -p $(W)/embed/image $(W)/embed/text
	$(LOG) $(RUN_gpu) scripts/embed-shard $(BIN) $(SHARD_DIR)/$*.tar $(SIZE) -m $(TEACHER) $(EMBED) -t $(T_embed) --image-out $(W)/embed/image/$*.npy --text-out $(W)/embed/text/$*.npy

$(LABELS): $(W)/labels/%.npy: $(W)/centroids.npy $(W)/embed/image/%.npy | $(BIN)/kmeans-cluster
	@mkdir -p $(@D)
	$(LOG) $(RUN_gpu) $(BIN)/kmeans-cluster --assign $< --labels-dir $(@D) $(ASSIGN) -t $(T_embed) $(W)/embed/image/$*.npy

# ---- stages over all shards

ifneq ($(CELLS),1)
USE_CELLS := --cells $(W)/cells.npy --probe $(PROBE)
$(KEEP): $(W)/cells.npy
endif
# Masks that got lost are made again, all of them: they are one decision.
ifneq ($(wildcard $(KEEP)),)
ifneq ($(words $(SHARDS)),$(words $(wildcard $(W)/keep/*.npy)))
$(KEEP): FORCE
endif
endif
$(W)/cells.npy: $(IMAGE) $(W)/params/cells $(W)/params/images.list | $(BIN)/kmeans-cluster
	$(LOG) $(RUN_train) $(BIN)/kmeans-cluster -k $(CELLS) $(CELLS_OPTIONS) --seed $(SEED) --mem $(MEM) -t $(T_big) -o $@ --files-from $(W)/params/images.list

USE_CELLS ?=
$(KEEP): $(IMAGE) $(W)/params/balance $(W)/params/images.list | $(BIN)/sem-balance
	@mkdir -p $(W)/keep $(W)/groups
	$(LOG) $(RUN_train) $(BIN)/sem-balance $(BALANCE) $(USE_CELLS) --mem $(MEM) -t $(T_big) --keep-dir $(W)/keep --groups-dir $(W)/groups -o $@ --files-from $(W)/params/images.list

$(W)/centroids.npy: $(KEEP) $(W)/params/cluster | $(BIN)/kmeans-cluster
	$(LOG) $(RUN_train) $(BIN)/kmeans-cluster -k $(K) $(KMEANS) --seed $(SEED) --mem $(MEM) -t $(T_big) --keep-dir $(W)/keep --checkpoint $(W)/centroids.checkpoint -o $@ --files-from $(W)/params/images.list

# ---- training and evaluation

READ = $(BIN)/shard-read -q --max-bad 100% --size $(TRAIN_SIZE) --crop random --shuffle $(SHUFFLE) --seed {seed} --epoch {epoch} --keep $(W)/keep --files-from $(W)/params/present.$*.list
$(MODELS): $(W)/%/open_clip_config.json: $(LABELS) $(TEXT) $(W)/params/train-% $(STUDENT) | $(BIN)/distill-train
	@while read -r f; do [ ! -e $(SHARD_DIR)/$$f.tar ] || echo $(SHARD_DIR)/$$f.tar; done < <(tr ' ' '\n' <$(W)/params/shards) >$(W)/params/present.$*.list
	$(LOG) $(RUN_train) scripts/train-student $(W)/$* $(W)/params/train-$* $(W)/params/present.$*.list $(W)/balance.json $(W)/centroids.npy.json $(STUDENT) -- $(BIN)/distill-train --student $(STUDENT) --tokenizer $(TEACHER) -o $(W)/$* --seed $(SEED) -t $(T_big) --teacher-image $(W)/embed/image --teacher-text $(W)/embed/text --labels $(W)/labels --centroids $(W)/centroids.npy --log $(W)/$*.jsonl --resume $(TRAIN) $(TRAIN_$*) --data '$(READ)'

$(STUDENTS:%=$(W)/eval/%.json): $(W)/eval/%.json: $(W)/%/open_clip_config.json $(W)/params/eval | $(BIN)/zs-eval
	@mkdir -p $(@D)
	$(LOG) $(RUN_gpu) $(BIN)/zs-eval -m $(W)/$* $(EVAL) -t $(T_big) -o $@ $(EVAL_SETS)
$(W)/eval/teacher.json: $(TEACHER_CONFIG) $(W)/params/eval | $(BIN)/zs-eval
	@mkdir -p $(@D)
	$(LOG) $(RUN_gpu) $(BIN)/zs-eval -m $(TEACHER) $(EVAL) -t $(T_big) -o $@ $(EVAL_SETS)

$(W)/report.html: $(RESULTS) $(INDEX) $(LABELS) | $(BIN)/cid-report
	$(LOG) $(BIN)/cid-report --shards $(SHARD_DIR) -o $@ $(W)

# ---- answers

## status: files done of each stage, damaged shards, and the ledger's sums
status:
	@scripts/status $(W) $(words $(SHARDS))
	@[ ! -x $(BIN)/cid-report ] || $(BIN)/cid-report --ledger $(W)
## clean-tmp: remove what killed runs left behind
clean-tmp:
	@find $(W) -name '.*.tmp' -print -delete
## help: this list
help:
	@sed -n 's/^## //p' pipeline.mk
	@echo "data sets: $(patsubst conf/%.mk,%,$(wildcard conf/*.mk))"
endif
