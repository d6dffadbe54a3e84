# The data pipeline, a graph of files:  make -f pipeline.mk DATA=NAME [-j N] [-k] [-n] [V=1] [STAGE | FILE]
# conf/NAME.mk describes the data set; everything made stands in work/NAME/. `help` lists the stages, clip-cid-pipeline(7)
# every variable.
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

# The folder of this file, with a slash; empty where make runs in it. What conf/ lacks here is taken from there.
HOUSE := $(filter-out ./,$(dir $(lastword $(MAKEFILE_LIST))))
ifeq ($(wildcard $(lastword $(MAKEFILE_LIST))),)
$(error pipeline.mk is '$(strip $(MAKEFILE_LIST))': a path with a space is not possible here; a link without one is)
endif
in_house = $(if $(HOUSE),$(if $(wildcard $1),$1,$(or $(wildcard $(HOUSE)$1),$1)),$1)
MAKECMDGOALS ?=
GOALS := $(or $(MAKECMDGOALS),all)
DATA_SETS := $(filter-out slurm,$(sort $(patsubst conf/%.mk,%,$(wildcard conf/*.mk)) $(if $(HOUSE),$(patsubst $(HOUSE)conf/%.mk,%,$(wildcard $(HOUSE)conf/*.mk)))))
ifeq ($(origin DATA),undefined)
ifeq ($(filter-out help,$(GOALS)),)
help:
	@sed -n 's/^## //p' $(HOUSE)pipeline.mk
	@echo "data sets: $(DATA_SETS)"
.PHONY: help
else
$(error say which data set: make -f $(HOUSE)pipeline.mk DATA=NAME, NAME one of: $(DATA_SETS))
endif
else

WORK ?= work
CONF ?= $(call in_house,conf/$(DATA).mk)
RUN ?=
# A run beside that of DATA, with other settings: scripts/side-run.
BASE := $(WORK)/$(DATA)
W := $(BASE)$(addprefix -,$(RUN))
ifeq ($(wildcard $(CONF)),)
$(error no '$(CONF)': DATA is one of $(DATA_SETS), or copy $(HOUSE)conf/example.mk to conf/$(DATA).mk)
endif

# ---- what a conf file or the command line may set, with the defaults; clip-cid-pipeline(7) has a line for each

BIN ?= $(if $(HOUSE),$(abspath $(or $(wildcard $(HOUSE)bin),$(HOUSE)../../bin)),bin)
SHARD_DIR :=
SHARDS :=
MIX :=
TEACHER :=
TOKENIZER :=
STUDENT :=
STUDENTS := student
SIZE :=
SELECT :=
TRAIN_SIZE :=
EMBED := --dtype f32
CELLS := 1
CELLS_OPTIONS := --iterations 10
BALANCE := --distance 0.1
PROBE := 4
K := 1000
KMEANS := --iterations 20
ASSIGN :=
BLOCK_index := 64
BLOCK_embed := 64
BLOCK_labels := 512
TRAIN := --epochs 1
SHUFFLE := 5000
AUGMENT :=
VIEWS := 0
SEED := 1
EVAL_SETS :=
EVAL :=
NEIGHBOURS := no
AGAINST :=
MEM := 2G
DEVICE :=
T_read := 1
T_embed := 1
T_big := 0
RUN_cpu :=
RUN_gpu :=
RUN_train :=
RUN_index = $(RUN_cpu)
RUN_embed = $(RUN_gpu)
RUN_cells = $(RUN_train)
RUN_balance = $(call ranks,balance,$(RUN_train))
RUN_cluster = $(call ranks,cluster,$(RUN_train))
RUN_labels = $(RUN_gpu)
RUN_eval = $(RUN_gpu)
RUN_report :=
# Ranks of one command: of the balance only with cells, of the clusters not with FAISS.
RANKS := 1
RANKS_balance = $(if $(filter-out 1,$(CELLS)),$(RANKS),1)
RANKS_cluster = $(if $(findstring --engine faiss,$(KMEANS)),1,$(RANKS))
# Of training: each rank reads a part of the samples, so a student by ranks is another than one without.
RANKS_train := 1
MPI := pmix
NFS_WAIT := 60
MAX_DROPPED := 60
PREFLIGHT ?= yes
LOCK ?= yes
LAUNCH ?= local
V ?=
# With LAUNCH=slurm, clip-cid-cluster(7): conf/slurm.mk has those of the site.
SITE ?= $(call in_house,conf/slurm.mk)
SBATCH :=
SBATCH_cpu :=
SBATCH_gpu :=
SBATCH_train :=
SBATCH_index = $(SBATCH_cpu)
SBATCH_embed = $(SBATCH_gpu)
SBATCH_cells = $(SBATCH_train)
SBATCH_balance = $(SBATCH_train)
SBATCH_cluster = $(SBATCH_train)
SBATCH_labels = $(SBATCH_gpu)
SBATCH_eval = $(SBATCH_gpu)
SBATCH_view = $(SBATCH_embed)
SBATCH_rows = $(SBATCH_eval)
SBATCH_report = $(SBATCH_cpu)
SBATCH_wait :=
JOB_SETUP :=
ARRAY := 200
MAX_TASKS :=
ROUNDS := 3
ASK_EVERY := 30
# Not for users. ONLY: the stage that may run here, with LAUNCH=slurm; what else is to be made is not seen yet.
LOCKED ?= no
CID_RUN ?=
JOBS ?= 1
TARGETS ?=
ONLY ?=
VARIABLES := BIN SHARD_DIR SHARDS MIX TEACHER TEACHER_RULE TOKENIZER STUDENT STUDENTS SIZE SELECT TRAIN_SIZE EMBED CELLS CELLS_OPTIONS \
	BALANCE PROBE K KMEANS ASSIGN BLOCK_index BLOCK_embed BLOCK_labels TRAIN SHUFFLE AUGMENT VIEWS SEED EVAL_SETS EVAL NEIGHBOURS AGAINST MEM DEVICE T_read T_embed T_big \
	RUN_cpu RUN_gpu RUN_train RUN_index RUN_embed RUN_cells RUN_balance RUN_cluster RUN_labels RUN_eval RUN_report \
	RANKS RANKS_balance RANKS_cluster RANKS_train MPI \
	NFS_WAIT MAX_DROPPED PREFLIGHT LOCK LAUNCH V DATA RUN WORK CONF
CLUSTER_VARIABLES := SITE SBATCH SBATCH_cpu SBATCH_gpu SBATCH_train SBATCH_index SBATCH_embed SBATCH_cells SBATCH_balance SBATCH_cluster \
	SBATCH_labels SBATCH_view SBATCH_rows SBATCH_eval SBATCH_report SBATCH_wait JOB_SETUP ARRAY MAX_TASKS ROUNDS ASK_EVERY
VARIABLES += $(CLUSTER_VARIABLES)

# What a mixture's sets have decided: those are no settings of it.
OF_SETS := SHARD_DIR SHARDS SELECT SIZE EMBED CELLS CELLS_OPTIONS BALANCE PROBE AGAINST MAX_DROPPED VIEWS
$(foreach v,$(OF_SETS),$(eval UNSET_$v := $$($v)))
OWN := $(foreach v,$(.VARIABLES),$(if $(filter file override,$(origin $v)),$v))
OWN_FILES := $(MAKEFILE_LIST)
ifeq ($(LAUNCH),slurm)
include $(wildcard $(SITE))
endif
include $(CONF)
ifneq ($(RUN),)
-include $(W)/run.mk
endif
ifneq ($(HOUSE),)
override STUDENT := $(call in_house,$(STUDENT))
override TOKENIZER := $(if $(TOKENIZER),$(call in_house,$(TOKENIZER)))
endif
$(foreach s,$(STUDENTS),$(eval TRAIN_$(s) ?=))

# A variable that nothing reads is a mistake: one of the conf file's, or of the command line's, that is neither above nor used
# or exported by the conf file. What is in the environment is nobody's mistake.
BUILD_VARIABLES := CUDA CC CXX AR NVCC CPPFLAGS CFLAGS CXXFLAGS LDFLAGS LDLIBS FAISS remote sentencepiece debug asan werror PREFIX DESTDIR
SET := $(foreach v,$(.VARIABLES),$(if $(filter command file override,$(filter-out environment,$(firstword $(origin $v)))),$v))
SET := $(filter-out $(OWN) OWN OWN_FILES BUILD_VARIABLES SET $(VARIABLES) $(STUDENTS:%=TRAIN_%) LOCKED JOBS TARGETS ONLY GOALS $(BUILD_VARIABLES) -*-% .% MAKE% GNUMAKE%,$(SET))
UNREAD := $(if $(SET),$(shell $(HOUSE)scripts/unread $(filter-out $(OWN_FILES),$(MAKEFILE_LIST)) -- $(SET) -- $(VARIABLES) $(STUDENTS:%=TRAIN_%)))
ifneq ($(UNREAD),)
$(error $(UNREAD))
endif

quote = '$(subst ','\'',$1)'
# ranks STAGE,OTHERWISE: what starts the ranks of a stage; in a job of Slurm its steps do.
ranks = $(if $(filter-out 1,$(RANKS_$1)),$(if $(filter environment,$(origin SLURM_JOB_ID)),srun --mpi=$(MPI),mpirun) -n $(RANKS_$1),$2)
# Names that make or a shell would take apart.
one_path = $(if $(word 2,$($1)),$(error $1 is '$($1)': a path with a space is not possible here; a link without one is))
hash := \#
empty :=
space := $(empty) $(empty)
backslash := \$(empty)
unplain := % ' " ` $$ * ? [ ; & | ( ) < > $(hash) $(backslash)
refuse_in = $(foreach c,$2,$(if $(findstring $c,$($1)),$(error $1 is '$($1)': a path with $c is not possible here; a link without it is)))
plain_path = $(call refuse_in,$1,: $(unplain))

# ---- MIX := NAME=WEIGHT ...: one training over finished folders. They are not touched: scripts/mix makes links to their files, with
# the set's name before a shard's, so that from the clusters on a mixture is a data set like another.

differs = $(if $(filter x$(subst $(space),_,$1)x,x$(subst $(space),_,$2)x),,differs)
SETS := $(foreach m,$(MIX),$(firstword $(subst =, ,$m)))
ifneq ($(SETS),)
$(call plain_path,MIX)
$(foreach v,$(OF_SETS),$(if $(or $(filter command,$(origin $v)),$(call differs,$(strip $($v)),$(strip $(UNSET_$v)))),$(error $v is set beside MIX: that was decided by the sets of the mixture, each for itself; leave it out)))
MADE_BY_SETS := $(filter index embed balance $(W)/index/% $(W)/embed/% $(W)/keep/% $(W)/balance.json $(W)/cells.npy,$(GOALS))
$(if $(MADE_BY_SETS),$(error $(firstword $(MADE_BY_SETS)) is made by the sets of a mixture: make -f $(HOUSE)pipeline.mk DATA=$(firstword $(SETS)) $(firstword $(MADE_BY_SETS))))
SHARDS := $(foreach s,$(SETS),$(addprefix $s.,$(file <$(WORK)/$s/params/shards)))
SHARD_DIR := $(W)/shards
endif

# SHARD_DIR on other machines: one folder or several.
REMOTE := $(filter s3://% https://% http://%,$(SHARD_DIR))
ifneq ($(REMOTE),)
$(call refuse_in,SHARD_DIR,$(unplain))
$(if $(filter-out $(REMOTE),$(SHARD_DIR)),$(error SHARD_DIR is '$(SHARD_DIR)': folders of this machine and of others do not go together))
override SHARD_DIR := $(W)/remote
endif
$(if $(findstring /,$(RUN)),$(error RUN is '$(RUN)': it must be a name))
$(foreach v,W SHARD_DIR TEACHER TOKENIZER STUDENT BIN CONF,$(call one_path,$v)$(call plain_path,$v))
without_digits = $(if $2,$(call without_digits,$(subst $(firstword $2),,$1),$(wordlist 2,10,$2)),$1)
whole = $(if $(or $(word 2,$($1)),$(call without_digits,$(strip $($1)),0 1 2 3 4 5 6 7 8 9)),$(error $1 is '$($1)': it must be one whole number))
$(foreach v,K SEED CELLS PROBE SHUFFLE VIEWS NFS_WAIT MAX_DROPPED T_read T_embed T_big \
	BLOCK_index BLOCK_embed BLOCK_labels ARRAY ROUNDS ASK_EVERY,$(call whole,$v)$(if $(strip $($v)),,$(error $v is empty: it must be one whole number)))
$(foreach v,SIZE TRAIN_SIZE MAX_TASKS,$(call whole,$v))
# What a device or a size is the tools know; preflight asks them. Here it is one word that no shell takes apart.
plain_word = $(if $(or $(word 2,$($1)),$(strip $(foreach c,% ' " ` $$ * ? [ ; & | ( ) < > $(hash) $(backslash),$(findstring $c,$($1))))),$(error $1 is '$($1)': it must be one plain word))
$(foreach v,MEM DEVICE,$(call plain_word,$v))
$(foreach v,LOCK PREFLIGHT NEIGHBOURS,$(if $(filter yes no,$($v)),,$(error $v is '$($v)': it must be yes or no)))
$(if $(filter local slurm,$(LAUNCH)),,$(error LAUNCH is '$(LAUNCH)': it must be local or slurm))
VIEW_NUMBERS := $(if $(filter-out 0,$(VIEWS)),$(shell seq 0 $$(($(VIEWS) - 1))))
$(call plain_path,SHARDS)$(call plain_path,EVAL_SETS)$(call plain_path,AGAINST)$(call plain_path,STUDENTS)
RESERVED := index embed against keep groups labels eval params log teacher cells centroids balance report ledger all train cluster \
	preflight status help clean-tmp suggest remote slurm cancel submit
TAKEN := $(strip $(filter $(RESERVED) .% cells.% centroids.% balance.% report.% ledger.%,$(STUDENTS))$(foreach s,$(STUDENTS),$(if $(findstring /,$s),$s)$(if $(findstring .old-,$s),$s)))
ifneq ($(TAKEN),)
$(error STUDENTS has '$(firstword $(TAKEN))': that name is the pipeline's own; take another)
endif
twice = $(if $(filter-out $(words $($1)),$(words $(sort $($1)))),$(error $1 names '$(firstword $(foreach x,$(sort $($1)),$(if $(word 2,$(filter $x,$($1))),$x)))' twice))
$(call twice,STUDENTS)$(if $(word 100,$(SHARDS)),,$(call twice,SHARDS))

DRY := $(or $(findstring n,$(firstword -$(MAKEFLAGS))),$(findstring q,$(firstword -$(MAKEFLAGS))))
# Shards that goals name by one of their files. A job of scripts/cluster for a block of shards knows no others: the whole graph of
# 41,455 shards costs make 0.8 GB and many seconds, in each of hundreds of jobs.
NAMED := $(filter $(patsubst $(W)/index/%.tsv,%,$(patsubst $(W)/labels/%.npy,%,$(patsubst $(W)/embed/text/%.npy,%,$(patsubst $(W)/embed/image/%.npy,%,$(GOALS))))) \
	$(foreach v,$(VIEW_NUMBERS),$(patsubst $(W)/embed/view-$v/%.npy,%,$(filter $(W)/embed/view-$v/%.npy,$(GOALS)))),$(SHARDS))
TASK := $(if $(DRY),,$(filter index embed labels view,$(ONLY)))
ifneq ($(TASK),)
override SHARDS := $(NAMED)
endif
QUESTIONS := help status clean-tmp cancel suggest where

# ---- shards on other machines: for each a link in SHARD_DIR, with the shard's time, made and removed as the list says

ifeq ($(and $(REMOTE),$(filter yes,$(LOCKED)),$(if $(filter-out none preflight,$(ONLY)),,yes),$(if $(or $(DRY),$(filter $(QUESTIONS),$(GOALS))),,yes)),yes)
$(shell mkdir -p $(W)/params)$(file >$(W)/params/.names,$(strip $(SHARDS)))
LISTED := $(shell $(HOUSE)scripts/list-remote $(BIN) $(W) $(REMOTE) 2>&1)
ifneq ($(LISTED),)
$(error $(LISTED))
endif
endif

ifneq ($(SETS),)
ifeq ($(and $(filter yes,$(LOCKED)),$(if $(filter-out none preflight,$(ONLY)),,yes),$(if $(or $(DRY),$(filter $(QUESTIONS),$(GOALS))),,yes)),yes)
LINKED := $(shell $(HOUSE)scripts/mix $(W) $(WORK) $(dir $(CONF)) $(MIX) -- $(MAKE) --no-print-directory -s -f $(HOUSE)pipeline.mk WORK=$(WORK) BIN=$(BIN) 2>&1)
ifneq ($(LINKED),)
$(error $(LINKED))
endif
endif
endif

# ---- files

INDEX := $(SHARDS:%=$(W)/index/%.tsv)
IMAGE := $(SHARDS:%=$(W)/embed/image/%.npy)
TEXT := $(SHARDS:%=$(W)/embed/text/%.npy)
# Written last: keep/ and groups/ are full once it is there.
KEEP := $(if $(SETS),$(SETS:%=$(WORK)/%/balance.json),$(W)/balance.json)
LABELS := $(SHARDS:%=$(W)/labels/%.npy)
# A student whose config is Hugging Face's is written in that layout, config.json last.
MODEL_FILE := $(if $(and $(STUDENT),$(shell grep -s '"model_type"' $(STUDENT))),config.json,open_clip_config.json)
MODELS := $(STUDENTS:%=$(W)/%/$(MODEL_FILE))
# Without evaluation sets there is nothing to evaluate on, and the report is about the rest.
RESULTS := $(if $(strip $(EVAL_SETS)),$(STUDENTS:%=$(W)/eval/%.json) $(W)/eval/teacher.json)
TEACHER_CONFIG := $(firstword $(wildcard $(TEACHER)/open_clip_config.json $(TEACHER)/config.json) $(TEACHER)/open_clip_config.json)
N := $(words $(SHARDS))
# A shard that is not there yet has no prerequisite: its stage marks it and goes on. Once it is there
# the mark makes its index old.
HERE := $(patsubst $(SHARD_DIR)/%.tar,%,$(wildcard $(if $(TASK),$(SHARDS:%=$(SHARD_DIR)/%.tar),$(SHARD_DIR)/*.tar)))
ARRIVED := $(if $(SETS),,$(filter $(patsubst $(W)/index/%.missing,%,$(wildcard $(W)/index/*.missing)),$(HERE)))
PRESENT := $(filter $(HERE),$(SHARDS))

Q := $(if $(V),,@)
# $(call log,STAGE,N): the command behind it is of that stage, which has N files; N = 0: one, and stage-end tells its end.
export CID_VERBOSE := $(V)
export CID_NFS_WAIT := $(NFS_WAIT)
log = $(if $(filter $(or $(ONLY),%) $(ONLY)-%,$1),$(Q)$(HOUSE)scripts/logged $(W)/log/$(patsubst $(W)/%,%,$@).log $1 $2 $(if $(filter preflight,$1)$(if $(TARGETS),,$(filter rows-%,$1)),-,$@),$(not_here))
not_here = @echo "$@ is to be made before" >&2; [ -z "$${CID_EARLY:-}" ] || : >"$$CID_EARLY"; exit 1;
ON := $(if $(DEVICE),--device $(DEVICE))
WORDS := $(if $(TOKENIZER),--tokenizer $(TOKENIZER))

# ---- one run at a time in a folder; LOCK=no for jobs that each make files of their own

INNER = $(MAKE) --no-print-directory -f $(HOUSE)pipeline.mk DATA=$(DATA) CONF=$(CONF) WORK=$(WORK) BIN=$(BIN) LOCKED=yes
# What scripts/cluster wants to know, by the names of its steps.
UNIT_index := 1
UNIT_embed := 1
UNIT_labels := 1
UNIT_view := 1
BLOCK_view = $(BLOCK_embed)
SBATCH_centroids = $(SBATCH_cluster)
KEEP_GOING := $(if $(findstring k,$(firstword -$(MAKEFLAGS))),yes)
CLUSTER_KNOWS := KEEP_GOING SBATCH $(foreach s,index embed cells balance centroids labels view train rows eval report,SBATCH_$s) BLOCK_index BLOCK_embed \
	BLOCK_labels BLOCK_view UNIT_index UNIT_embed UNIT_labels UNIT_view ARRAY MAX_TASKS ROUNDS ASK_EVERY NFS_WAIT PREFLIGHT JOB_SETUP MAX_DROPPED BALANCE
ifneq ($(filter submit,$(GOALS)),)
## submit: LAUNCH=slurm whose waiting is a job too; the goals beside it, or all
.PHONY: $(GOALS)
submit:
	@$(HOUSE)scripts/cluster-submit $(W) $(call quote,$(SBATCH) $(SBATCH_wait)) $(call quote,$(JOB_SETUP)) $(MAKE) --no-print-directory -f $(HOUSE)pipeline.mk DATA=$(DATA) CONF=$(CONF) WORK=$(WORK) BIN=$(BIN) LAUNCH=slurm $(filter-out submit,$(GOALS))
$(filter-out submit,$(GOALS)): submit ;
else ifeq ($(or $(DRY),$(filter yes,$(LOCKED)),$(filter $(QUESTIONS),$(GOALS))),)
.PHONY: locked outcome $(GOALS)
REASON := $(W)/.reason.$(shell echo $$PPID)
ended = $(if $1,$(error $1))
$(GOALS): outcome ;
outcome: locked
	$(call ended,$(shell cat $(REASON) 2>/dev/null; rm -f $(REASON)))
# Settings of the command line, for the run.mk of a run beside.
SIDE := $(foreach v,$(filter-out DATA RUN WORK CONF BIN LAUNCH LOCK PREFLIGHT V,$(VARIABLES) $(STUDENTS:%=TRAIN_%)),$(if $(filter command,$(origin $v)),$(call quote,$v=$($v))))
locked:
	$(if $(RUN),@$(HOUSE)scripts/side-run $(BASE) $(W) $(SIDE))
	@+$(HOUSE)scripts/run $(W) $(LOCK) $(REASON) $(if $(filter slurm,$(LAUNCH)),$(HOUSE)scripts/cluster $(W) '$(GOALS)' $(foreach v,$(CLUSTER_KNOWS),$v=$(call quote,$($v))) --) $(INNER) JOBS=$(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),1) $(if $(filter slurm,$(LAUNCH)),,$(MAKECMDGOALS))
else

## all: every stage, then the report
all: report
## preflight: what can be known before the first hour is spent: models, shards, sets, options, memory, disk
preflight: $(W)/params/preflight
## index: what is in each shard, sample by sample
index: $(INDEX) | end-index
## embed: the teacher's embeddings of pictures and captions
embed: $(IMAGE) $(TEXT) | end-embed
## balance: which samples stay
balance: $(KEEP)
## cluster: centroids, and a label for each sample
cluster: $(LABELS) | end-labels
## train: the students
train: $(MODELS)
## eval: teacher and students on the evaluation sets
eval: $(RESULTS)
## report: one page about everything; fails when the ledger does not add up or a shard is damaged
report: $(W)/report.html
	@$(HOUSE)scripts/verdict $(W)
.PHONY: all preflight index embed balance cluster train eval report help status clean-tmp suggest cancel where
ifeq ($(RESULTS),)
eval: no-eval
$(W)/report.html: | no-eval
.PHONY: no-eval
no-eval:
	@echo "no EVAL_SETS: evaluation is left out" >&2
endif
.PHONY: end-index end-embed end-labels
end-index: $(INDEX)
	@$(HOUSE)scripts/stage-end index$(call failed,index)
end-embed: $(IMAGE) $(TEXT)
	@$(HOUSE)scripts/stage-end embed$(call failed,embed)
end-labels: $(LABELS)
	@$(HOUSE)scripts/stage-end labels$(call failed,labels)

# ---- parameters: a file that is made again when its text is another

$(W)/params:
	@mkdir -p $@
# $(call stamp,NAME,PATHS): params/NAME has the text STAMP_NAME and, for PATHS, a word that their contents give. The recipe
# looks again: a rule of the conf file may have made the teacher in the meantime.
DIGESTS := $(W)/params/.digests
define stamp
ID_$(1) := $$(if $$(filter $$(QUESTIONS),$$(GOALS)),,$$(if $$(strip $(2)),$$(shell $(HOUSE)scripts/identity $$(if $$(DRY),-n) $$(DIGESTS) $(2))))
ifneq ($$(strip $$(file <$(W)/params/$(1))),$$(strip $$(STAMP_$(1)) $$(ID_$(1))))
$(W)/params/$(1): FORCE
endif
endef
# $(call restamp,NAME,PATHS): the recipe's command.
restamp = $(HOUSE)scripts/stamp $(W)/params/$1 $(DIGESTS) $(call quote,$(strip $(STAMP_$1))) $2
files_in = $(wildcard $(filter-out -%,$(subst =, ,$1)))
STAMPS := $(if $(SETS),,select embed $(if $(filter-out 0,$(VIEWS)),views) cells balance) teacher cluster eval $(STUDENTS:%=train-%)
STAMP_teacher := 2 $(TEACHER) $(TOKENIZER)
FILES_teacher := $(TEACHER) $(TOKENIZER)
STAMP_select := $(or $(SELECT),all)
FILES_select :=
STAMP_embed := 2 $(SIZE) $(EMBED)
FILES_embed := $(call files_in,$(EMBED))
STAMP_views := 1 $(AUGMENT) $(SEED)
FILES_views :=
STAMP_cells := 1 $(CELLS) $(CELLS_OPTIONS) $(SEED)
FILES_cells :=
STAMP_balance := 1 $(BALANCE) $(PROBE)$(if $(AGAINST), against $(AGAINST))
FILES_balance := $(AGAINST)
STAMP_cluster := 1 $(K) $(KMEANS) $(SEED)
FILES_cluster := $(call files_in,$(KMEANS))
STAMP_eval := 2 $(EVAL_SETS) $(EVAL) $(if $(filter yes,$(NEIGHBOURS)),neighbours)
FILES_eval := $(EVAL_SETS) $(call files_in,$(EVAL))
define student
STAMP_train-$(1) := 2 $$(STUDENT) $$(TRAIN) $$(TRAIN_$(1)) $$(TRAIN_SIZE) $$(SHUFFLE) $$(SEED) $$(AUGMENT) $$(if $$(call ranks,train,),by parts) $$(if $$(filter-out 0,$$(VIEWS)),$$(VIEWS) views) $$(if $$(MIX),of $$(MIX))
FILES_train-$(1) := $$(STUDENT) $$(call files_in,$$(TRAIN) $$(TRAIN_$(1)))
endef
$(foreach s,$(STUDENTS),$(eval $(call student,$s)))
$(foreach s,$(STAMPS),$(eval $(call stamp,$s,$(FILES_$s))))
$(STAMPS:%=$(W)/params/%): $(W)/params/%: | $(W)/params
	@$(call restamp,$*,$(FILES_$*))
# The list of shards is one too. It is too long for a command line, so make itself writes it; a dry
# run must not.
ifneq ($(TASK),)
$(W)/params/shards:
	$(not_here)
else
ifneq ($(strip $(file <$(W)/params/shards)),$(strip $(SHARDS)))
$(W)/params/shards: FORCE
endif
$(W)/params/shards: | $(W)/params
	@$(if $(DRY),,$(file >$@.new,$(strip $(SHARDS))))mv $@.new $@
endif
$(W)/params/images.list: $(W)/params/shards
	@tr ' ' '\n' <$< | sed -n 's|..*|$(W)/embed/image/&.npy|p' >$@.new && mv $@.new $@

# ---- preflight: before the first stage, and again when something that it looks at has changed

BEFORE_EMBED := index $(W)/index/%
BEFORE_TRAIN := $(BEFORE_EMBED) embed balance cluster $(W)/embed/% $(W)/keep/% $(KEEP) $(W)/labels/% $(W)/cells.npy $(W)/centroids.npy
CHECKS := $(strip shards $(if $(filter-out $(BEFORE_EMBED) embed balance $(W)/embed/% $(W)/keep/% $(KEEP) $(W)/cells.npy $(W)/eval/teacher.json,$(GOALS)),clusters) \
	$(if $(filter-out $(BEFORE_EMBED),$(GOALS)),teacher) \
	$(if $(filter-out $(BEFORE_TRAIN) $(W)/eval/teacher.json,$(GOALS)),student) \
	$(if $(filter all report preflight eval $(W)/eval/% $(W)/report.html,$(GOALS)),eval))
STAMP_preflight = 1 $(CHECKS) $(SELECT) $(or $(REMOTE),$(SHARD_DIR)) $(N) $(SIZE) $(EMBED) $(CELLS) $(CELLS_OPTIONS) $(BALANCE) $(PROBE) $(K) $(KMEANS) \
	$(ASSIGN) $(TRAIN) $(foreach s,$(STUDENTS),$(TRAIN_$(s))) $(EVAL) $(MEM) $(AUGMENT) $(if $(filter-out 0,$(VIEWS)),$(VIEWS)) $(MIX)
FILES_preflight := $(if $(filter teacher,$(CHECKS)),$(FILES_teacher)) $(if $(filter student,$(CHECKS)),$(STUDENT)) $(if $(filter eval,$(CHECKS)),$(FILES_eval))
PREFLIGHT_KNOWS := CHECKS W WORK MIX SETS BIN SELECT AUGMENT VIEWS SHARD_DIR REMOTE TEACHER TOKENIZER STUDENT STUDENTS SIZE TRAIN_SIZE EMBED CELLS CELLS_OPTIONS BALANCE K \
	KMEANS ASSIGN TRAIN $(STUDENTS:%=TRAIN_%) AGAINST EVAL_SETS EVAL MEM DEVICE T_embed T_big
$(eval $(call stamp,preflight,$(FILES_preflight)))
ifneq ($(filter preflight,$(GOALS)),)
$(W)/params/preflight: FORCE
endif
$(W)/params/preflight: $(W)/params/shards | $(W)/params $(if $(filter teacher,$(CHECKS)),$(BIN)/teacher-embed) $(if $(filter student,$(CHECKS)),$(BIN)/distill-train) $(BIN)/shard-read $(BIN)/kmeans-cluster
ifneq ($(SETS),)
$(W)/params/preflight: $(W)/params/teacher
endif
ifdef TEACHER_RULE
$(W)/params/preflight: | $(if $(filter teacher,$(CHECKS)),$(TEACHER_CONFIG))
endif
	$(call log,preflight,1) $(HOUSE)scripts/preflight $(foreach v,$(PREFLIGHT_KNOWS),$v=$(call quote,$($v)))
	@$(call restamp,preflight,$(FILES_preflight))
ifneq ($(PREFLIGHT),no)
FIRST := $(W)/params/preflight
else
FIRST :=
endif

# Programs that are not built yet are; newer ones do not make data old.
PROGRAMS := $(addprefix $(BIN)/,shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report cid-find)
$(PROGRAMS):
	+$(MAKE) $(if $(HOUSE),-C $(HOUSE)) -f Makefile $@

# A conf file may have a rule that makes the teacher, and TEACHER_RULE := yes; otherwise it has to be there.
ifndef TEACHER_RULE
$(TEACHER_CONFIG): | $(FIRST)
	@echo "no teacher: '$(TEACHER)' is not a model folder" >&2; exit 1
endif

# ---- stages of shards, a block of them in one process

CHOICE := $(if $(SELECT),--select $(call quote,$(SELECT)))
PATHS_index := $(SHARD_DIR)/%.tar $(W)/index/%.tsv
MAKE_index = $(RUN_index) $(BIN)/shard-read --index-dir $(W)/index --max-bad 100% $(CHOICE) --files-from {list} -t $(T_read)
PATHS_embed := $(SHARD_DIR)/%.tar $(W)/embed/image/%.npy $(W)/embed/text/%.npy
MAKE_embed = $(RUN_embed) $(BIN)/teacher-embed -m $(TEACHER) --partial --no-resume --shards-from {list} --image-dir $(W)/embed/image --text-dir $(W)/embed/text --index-dir $(W)/index $(if $(SIZE),--size $(SIZE)) $(CHOICE) $(strip $(WORDS) $(ON) $(EMBED)) -t $(T_embed)
PATHS_labels := $(W)/embed/image/%.npy $(W)/labels/%.npy
MAKE_labels = $(RUN_labels) $(BIN)/kmeans-cluster --assign $(W)/centroids.npy --labels-dir $(W)/labels --each --files-from {list} $(strip $(ON) $(ASSIGN)) -t $(T_embed)

# Shards that goals name come first, in blocks of their own.
ORDERED := $(if $(NAMED),$(NAMED) $(filter-out $(NAMED),$(SHARDS)),$(SHARDS))
# Blocks of a stage, as FIRST:LAST; smaller ones where they would not keep all jobs busy.
ranges = $(shell awk -v m=$(words $(NAMED)) -v n=$(words $(ORDERED)) -v b=$(BLOCK_$1) -v j=$(JOBS) 'function cut(from, to, k, i, l) { \
	k = int((to - from + 2 * j) / (2 * j)); if (j == 1 || k > b) k = b; \
	for (i = from; i <= to; i += k) { l = i + k - 1; print i ":" (l < to ? l : to) } } \
	BEGIN { if (b < 1) b = 1; cut(1, m); cut(m + 1, n) }')
# A task of scripts/cluster has no folder of scripts/run.
LISTS := $(W)/.blocks/$(or $(notdir $(CID_RUN)),$(and $(filter-out none preflight,$(ONLY)),$(SLURM_JOB_ID),job-$(SLURM_JOB_ID)))
ifeq ($(CID_RUN)$(DRY),)
ifneq ($(filter-out none preflight,$(ONLY)),)
$(shell mkdir -p $(LISTS))
endif
endif
define newline :=


endef
# $(call run_block,STAGE,NAME,SHARDS): the process for these shards, with NAME of its log and list; a dry run writes no list, and
# with TARGETS=yes, for scripts/cluster, it names the files.
run_block = $(if $(filter $(or $(ONLY),%) $(ONLY)-%,$1),$(if $(TARGETS),$(call name_targets,$1,$3),$(call run_list,$1,$2,$3)),$(not_here))
name_targets = $(subst $(space)scripts/logged,$(newline)scripts/logged,$(foreach s,$2,scripts/logged - $1 - $(subst %,$s,$(word 2,$(PATHS_$1)))))
run_list = $(if $(DRY),,$(file >$(LISTS)/$1-$2,$(subst $(space),$(newline),$(strip $3))))$(Q)$(HOUSE)scripts/logged $(W)/log/$1/$2.log $1 $(N):$(words $3):$(LISTS)/$1-$2 - $(HOUSE)scripts/block $(PATHS_$1) -- $(strip $(MAKE_$1))$(if $(KEEP_GOING), || :)
# Shards that have failed in this run. With -k the others of their block go on, and what needs them fails.
failed = $(if $(strip $(foreach s,$1,$(file <$(LISTS)/$s.failed))),; exit 1)
has_failed = $(filter $*,$(foreach s,$1,$(file <$(LISTS)/$s.failed)))

# A file of a shard has two names here. DIR/./NAME stands for the question whether it is to be made: its recipe starts no process,
# it adds the shard to its block. DIR/NAME waits for the block, and then has the date that the block gave it.
#
# $(call block_of,STAGE,NUMBER,SHARDS,ASKED,MADE,BEFORE): ASKED and MADE are patterns of the two names, BEFORE the stages before.
define block_of
.PHONY: $1-block-$2
$1-block-$2: $(foreach p,$4,$(patsubst %,$p,$3))
	$$(if $$(TODO_$1_$2),$$(call run_block,$1,block-$(firstword $3),$$(sort $$(TODO_$1_$2))))
TODO_$1_$2 :=
$(foreach p,$4,$(patsubst %,$p,$3)): %:
	$$(if $$(filter $$(notdir $$(basename $$*)),$$(foreach s,$6,$$(file <$(LISTS)/$$s.failed))),,$$(eval TODO_$1_$2 += $$(notdir $$(basename $$*))))
$(foreach p,$5,$(patsubst %,$p,$3)): | $1-block-$2
endef
blocks_of = $(foreach r,$(call ranges,$1),$(eval $(call block_of,$1,$(firstword $(subst :, ,$r)),$(wordlist $(firstword $(subst :, ,$r)),$(lastword $(subst :, ,$r)),$(ORDERED)),$2,$3,$4)))

ifneq ($(SETS),)
# Links to what the sets have made.
$(INDEX) $(IMAGE) $(TEXT) $(KEEP): ;
else
$(PRESENT:%=$(W)/index/%.tsv): $(W)/index/%.tsv: $(SHARD_DIR)/%.tar
$(PRESENT:%=$(W)/index/./%.tsv): $(W)/index/./%.tsv: $(SHARD_DIR)/%.tar
$(ARRIVED:%=$(W)/index/%.tsv) $(ARRIVED:%=$(W)/index/./%.tsv): FORCE
# Without SELECT, and never with one, an index needs nothing but its shard.
ifneq ($(SELECT)$(wildcard $(W)/params/select),)
$(INDEX) $(SHARDS:%=$(W)/index/./%.tsv): $(W)/params/select
endif
$(SHARDS:%=$(W)/index/./%.tsv): | $(BIN)/shard-read $(FIRST)
$(call blocks_of,index,$(W)/index/./%.tsv,$(W)/index/%.tsv,)
$(SHARDS:%=$(W)/index/%.tsv): $(W)/index/%.tsv:
	$(empty)

EMBED_NEEDS := $(W)/params/embed $(W)/params/teacher | $(TEACHER_CONFIG) $(BIN)/teacher-embed
$(SHARDS:%=$(W)/embed/image/./%.npy): $(W)/embed/image/./%.npy: $(W)/index/%.tsv $(EMBED_NEEDS)
$(SHARDS:%=$(W)/embed/text/./%.npy): $(W)/embed/text/./%.npy: $(W)/index/%.tsv $(EMBED_NEEDS)
$(call blocks_of,embed,$(W)/embed/image/./%.npy $(W)/embed/text/./%.npy,$(W)/embed/image/%.npy $(W)/embed/text/%.npy,index)
$(SHARDS:%=$(W)/embed/image/%.npy): $(W)/embed/image/%.npy: $(W)/index/%.tsv $(EMBED_NEEDS)
	$(if $(call has_failed,index embed),@exit 1)
$(SHARDS:%=$(W)/embed/text/%.npy): $(W)/embed/text/%.npy: $(W)/index/%.tsv $(EMBED_NEEDS)
	$(if $(call has_failed,index embed),@exit 1)
endif

$(SHARDS:%=$(W)/labels/./%.npy): $(W)/labels/./%.npy: $(W)/embed/image/%.npy $(W)/centroids.npy | $(BIN)/kmeans-cluster
$(call blocks_of,labels,$(W)/labels/./%.npy,$(W)/labels/%.npy,)
$(SHARDS:%=$(W)/labels/%.npy): $(W)/labels/%.npy: $(W)/embed/image/%.npy $(W)/centroids.npy
	$(if $(call has_failed,labels),@exit 1)

# The teacher's pictures of each view: the crops of training, which it then sees as the student does. Each view is a stage of shards.
VIEWED := $(foreach v,$(VIEW_NUMBERS),$(SHARDS:%=$(W)/embed/view-$v/%.npy))
define view
PATHS_view-$1 := $(SHARD_DIR)/%.tar $(W)/embed/view-$1/%.npy
MAKE_view-$1 = $$(RUN_embed) $(BIN)/teacher-embed -m $(TEACHER) --partial --no-resume --shards-from {list} --image-dir $(W)/embed/view-$1 --index-dir $(W)/index $(if $(SIZE),--size $(SIZE)) $$(CHOICE) $(strip $(WORDS) $(ON) $(EMBED)) --crop random $(strip $(AUGMENT)) --seed $(SEED) --view $1 -t $(T_embed)
BLOCK_view-$1 := $(BLOCK_view)
$(SHARDS:%=$(W)/embed/view-$1/./%.npy): $(W)/embed/view-$1/./%.npy: $(W)/index/%.tsv $(W)/params/views $(EMBED_NEEDS)
$(SHARDS:%=$(W)/embed/view-$1/%.npy): $(W)/embed/view-$1/%.npy: $(W)/index/%.tsv $(W)/params/views $(EMBED_NEEDS)
	$$(if $$(call has_failed,index view-$1),@exit 1)
endef
$(foreach v,$(VIEW_NUMBERS),$(eval $(call view,$v)))
$(foreach v,$(VIEW_NUMBERS),$(call blocks_of,view-$v,$(W)/embed/view-$v/./%.npy,$(W)/embed/view-$v/%.npy,index))
ifneq ($(VIEW_NUMBERS),)
.PHONY: end-views
end-views: $(VIEWED)
	@$(foreach v,$(VIEW_NUMBERS),$(HOUSE)scripts/stage-end view-$v;) :$(call failed,$(VIEW_NUMBERS:%=view-%))
$(MODELS): $(VIEWED) | end-views
endif

# ---- stages over all shards

ifeq ($(SETS),)
ifneq ($(CELLS),1)
USE_CELLS := --cells $(W)/cells.npy --probe $(PROBE)
$(KEEP): $(W)/cells.npy
endif
# Masks that got lost are made again, all of them: they are one decision.
ifneq ($(if $(TASK),,$(wildcard $(KEEP))),)
ifneq ($(N),$(words $(filter $(SHARDS:%=$(W)/keep/%.npy),$(wildcard $(W)/keep/*.npy))))
$(KEEP): FORCE
endif
endif
$(W)/cells.npy: $(IMAGE) $(W)/params/cells $(W)/params/images.list | $(BIN)/kmeans-cluster end-index end-embed
	$(call log,cells,1) $(RUN_cells) $(BIN)/kmeans-cluster -k $(CELLS) $(strip $(ON) $(CELLS_OPTIONS)) --seed $(SEED) --mem $(MEM) -t $(T_big) -o $@ --files-from $(W)/params/images.list

# Embeddings of the evaluation sets whose pictures training must not have.
AGAINST_FILES := $(foreach s,$(AGAINST:/=),$(W)/against/$(notdir $s).npy)
$(AGAINST_FILES): $(W)/against/%.npy: $(W)/params/embed $(W)/params/teacher $(W)/params/balance | $(TEACHER_CONFIG) $(BIN)/teacher-embed
	@mkdir -p $(@D)
	$(call log,balance-against,1) $(RUN_embed) $(BIN)/teacher-embed -m $(TEACHER) --partial $(if $(SIZE),--size $(SIZE)) $(strip $(ON) $(EMBED)) -t $(T_embed) -o $@ --shards $(wildcard $(filter %/$*,$(AGAINST:/=))/test/*.tar)

USE_CELLS ?=
# A survivor without a caption would take its group out of training: the text embeddings tell.
$(KEEP): $(IMAGE) $(TEXT) $(AGAINST_FILES) $(W)/params/balance $(W)/params/images.list | $(BIN)/sem-balance end-index end-embed
	@mkdir -p $(W)/keep $(W)/groups
	$(if $(AGAINST),@rm -f $(filter-out $(AGAINST_FILES),$(wildcard $(W)/against/*.npy)))
	$(call log,balance,0) $(RUN_balance) $(BIN)/sem-balance $(strip $(BALANCE) $(USE_CELLS) $(ON))$(if $(AGAINST), --against $(W)/against) --mem $(MEM) -t $(T_big) $(if $(findstring --pairs,$(BALANCE)),--index-dir $(W)/index )$(if $(findstring score,$(BALANCE)),--text-dir,--may-survive) $(W)/embed/text --keep-dir $(W)/keep --groups-dir $(W)/groups -o $@ --files-from $(W)/params/images.list
	@$(HOUSE)scripts/stage-end balance "$$($(HOUSE)scripts/dropped $@ $(MAX_DROPPED))"

endif

# A share that is greater than expected stops the run once, before the rest is built on it.
LOOKED := $(if $(SETS)$(ONLY)$(filter slurm,$(LAUNCH)),,$(W)/params/looked)
$(W)/params/looked: $(KEEP)
	@$(HOUSE)scripts/dropped --stop $(KEEP) $(MAX_DROPPED) $(call quote,$(BALANCE)) $@

$(W)/centroids.npy: $(KEEP) $(if $(SETS),$(W)/params/images.list) $(W)/params/cluster | $(BIN)/kmeans-cluster $(LOOKED) $(if $(SETS),$(FIRST))
	$(call log,centroids,1) $(RUN_cluster) $(BIN)/kmeans-cluster -k $(K) $(strip $(ON) $(KMEANS)) --seed $(SEED) --mem $(MEM) -t $(T_big) --keep-dir $(W)/keep --checkpoint $(W)/centroids.checkpoint -o $@ --files-from $(W)/params/images.list

# ---- training and evaluation

# $(call read,LIST): the samples of the shards in LIST; of a mixture each set has a list of its own.
read = $(BIN)/shard-read -q --max-bad 100% --model $(STUDENT) $(if $(TRAIN_SIZE),--size $(TRAIN_SIZE)) --crop random $(strip $(AUGMENT)) --shuffle $(SHUFFLE) --seed {seed} --epoch {epoch} $(if $(VIEW_NUMBERS),--view {view}) --keep $(W)/keep --files-from $1 $(if $(call ranks,train,),--part {part}/{parts} --counts $(W)/index --skip {skip})
DATA_OF = $(if $(SETS),$(foreach m,$(MIX),--data $(call quote,$m:$(call read,$(W)/params/present.$*.$(firstword $(subst =, ,$m)).list))),--data $(call quote,$(call read,$(W)/params/present.$*.list)))
TRAIN_INPUTS = params=$(W)/params/train-$* teacher=$(W)/params/teacher $(if $(SETS),$(foreach s,$(SETS),embed-$s=$(WORK)/$s/params/embed),embed=$(W)/params/embed) shards=$(W)/params/present.$*.list $(if $(SETS),$(foreach s,$(SETS),balance-$s=$(WORK)/$s/balance.json),balance=$(W)/balance.json) centroids=$(W)/centroids.npy.json student=$(STUDENT)
$(MODELS): $(W)/%/$(MODEL_FILE): $(LABELS) $(TEXT) $(W)/params/train-% | $(STUDENT) $(BIN)/distill-train end-labels
	@$(HOUSE)scripts/present $(W)/params/shards $(SHARD_DIR) $(W)/index >$(W)/params/present.$*.list
	@$(foreach s,$(SETS),$(HOUSE)scripts/present $(W)/mix/$s $(SHARD_DIR) $(W)/index >$(W)/params/present.$*.$s.list;)
	$(call log,train-$*,1) $(if $(call ranks,train,),,$(RUN_train)) $(HOUSE)scripts/train-student $(W)/$* $(TRAIN_INPUTS) -- $(call ranks,train,) $(BIN)/distill-train --student $(STUDENT) --tokenizer $(or $(TOKENIZER),$(TEACHER)) -o $(W)/$* --seed $(SEED) -t $(T_big) --teacher $(TEACHER) $(if $(VIEW_NUMBERS),--views $(VIEWS) --teacher-image '$(W)/embed/view-{view}',--teacher-image $(W)/embed/image) --teacher-text $(W)/embed/text --labels $(W)/labels --centroids $(W)/centroids.npy --keep $(W)/keep --shards-from $(W)/params/present.$*$(if $(SETS),.{set}).list --log $(W)/$*.jsonl $(ON) --resume $(TRAIN) $(TRAIN_$*) $(DATA_OF)

# The teacher's rows of the evaluation sets, for the neighbours that a student shares with it.
ROWED :=
ifeq ($(NEIGHBOURS),yes)
ROWED := $(foreach s,$(EVAL_SETS),$(W)/eval/rows/$(notdir $(s:%/=%)).done)
$(ROWED): $(W)/eval/rows/%.done: $(W)/params/teacher $(W)/params/eval | $(TEACHER_CONFIG) $(BIN)/teacher-embed
	@mkdir -p $(@D) && printf '%s\n' $(wildcard $(addsuffix /test/*.tar,$(filter $* $*/ %/$* %/$*/,$(EVAL_SETS)))) >$(@D)/$*.list
	$(call log,rows-$*,1) $(RUN_embed) $(BIN)/teacher-embed -m $(TEACHER) --shards-from $(@D)/$*.list --image-dir $(@D)/$* $(strip $(WORDS) $(ON)) -t $(T_big)
	@touch $@
endif
$(STUDENTS:%=$(W)/eval/%.json): $(W)/eval/%.json: $(W)/%/$(MODEL_FILE) $(W)/params/eval $(ROWED) | $(BIN)/zs-eval
	@mkdir -p $(@D)
	$(call log,eval-$*,1) $(RUN_eval) $(BIN)/zs-eval -m $(W)/$* $(if $(ROWED),--teacher-image $(W)/eval/rows) $(ON) $(EVAL) -t $(T_big) -o $@ $(EVAL_SETS)
$(W)/eval/teacher.json: $(W)/params/teacher $(W)/params/eval | $(TEACHER_CONFIG) $(FIRST) $(BIN)/zs-eval
	@mkdir -p $(@D)
	$(call log,eval-teacher,1) $(RUN_eval) $(BIN)/zs-eval -m $(TEACHER) $(WORDS) $(ON) $(EVAL) -t $(T_big) -o $@ $(EVAL_SETS)

$(W)/report.html: $(RESULTS) $(MODELS) $(INDEX) $(LABELS) | $(BIN)/cid-report
	$(call log,report,1) $(RUN_report) $(BIN)/cid-report --shards $(SHARD_DIR) -o $@ $(W)

# ---- answers

# For scripts/mix: the folder of the tar files.
where:
	@echo $(abspath $(SHARD_DIR))

## status: files done of each stage and those to do, the students' steps, damaged shards, the ledger's sums
status:
	@$(HOUSE)scripts/status $(W) $(N) $(call quote,$(STUDENTS)) $(MAKE) --no-print-directory -n -f $(HOUSE)pipeline.mk DATA=$(DATA) CONF=$(CONF) WORK=$(WORK) BIN=$(BIN) all
## suggest: distances, K, cells, batch and memory for the conf file, from the embeddings that are there
suggest:
	@$(HOUSE)scripts/suggest $(W) $(BIN) $(foreach v,SHARDS MEM T_big K TRAIN STUDENT TEACHER TOKENIZER,$v=$(call quote,$($v)))
## cancel: end the jobs of LAUNCH=slurm; training saves first
cancel:
	@$(HOUSE)scripts/cluster-cancel $(W)
## clean-tmp: remove what killed runs left behind
clean-tmp:
	@[ ! -d $(W) ] || find $(W) \( -name '.*.tmp' -o -path '$(W)/.blocks/*' -o -path '$(W)/log/.progress/*' -o -name '.reason.*' \) -print -delete
## help: this list
help:
	@sed -n 's/^## //p' $(HOUSE)pipeline.mk
	@echo "data sets: $(DATA_SETS)"
endif
endif
