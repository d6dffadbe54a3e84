# clip-cid: build, test, install. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += -rR --no-print-directory
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := all

VERSION := 0.1.0
PREFIX ?= /usr/local
# What the environment or the command line says of these holds; CPPFLAGS, CFLAGS, CXXFLAGS and LDFLAGS come behind our own.
given = $(filter-out default undefined,$(origin $1))
ifeq ($(call given,CC),)
CC := gcc
endif
ifeq ($(call given,CXX),)
CXX := g++
endif
ifeq ($(call given,AR),)
AR := ar
endif
# A message that is too long is cut on purpose (lib/base/err.h), so format-truncation has nothing to say.
WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wvla -Wformat=2 -Wstrict-prototypes \
	$(if $(findstring clang,$(CC)),,-Wno-format-truncation)
OPT := -O2 -g
BUILD := build/release
BIN := bin
ifdef debug
OPT := -O0 -g3
BUILD := build/debug
BIN := $(BUILD)/bin
endif
ifdef asan
OPT := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
BUILD := build/asan
BIN := $(BUILD)/bin
endif
ifdef werror
WARN += -Werror
endif
PREPROCESS := -D_GNU_SOURCE -DCLIPCID_VERSION='"$(VERSION)"' -Ilib -Itests
PKG_CONFIG ?= pkg-config
has_pc = $(if $(shell $(PKG_CONFIG) --exists $1 2>/dev/null && echo yes),yes,no)
WANTED := dnnl openblas libarchive libjpeg libwebpdemux libwebp libutf8proc libcjson zlib libxxhash
has_header = $(if $(shell printf '%s\n' '\#if __has_include(<$1>)' yes '\#endif' | $(CXX) $(CPPFLAGS) $(CXXFLAGS) -E -P -xc++ - 2>/dev/null),yes,no)
# FAISS (kmeans-cluster --engine faiss), where its headers are found; FAISS=0 leaves it out.
FAISS ?= $(call has_header,faiss/Clustering.h)
FAISS_ON := $(filter-out 0 no,$(FAISS))
ifneq ($(FAISS_ON),)
PREPROCESS += -DCLIPCID_FAISS
endif
# Shards on S3 and the web (lib/remote), where libcurl and libcrypto are found; remote=no leaves them out.
remote ?= $(call has_pc,libcurl libcrypto)
ifeq ($(remote),yes)
PREPROCESS += -DCLIPCID_REMOTE
WANTED += libcurl libcrypto
endif
# Tokenizers of SigLIP, Gemma, mT5 and XLM-V, where libsentencepiece is found; sentencepiece=no leaves them out. The .pc of
# Debian 13 asks for one of protobuf that is not installed with it.
sentencepiece ?= $(if $(filter yes,$(call has_pc,sentencepiece) $(call has_header,sentencepiece_processor.h)),yes,no)
ifeq ($(sentencepiece),yes)
PREPROCESS += -DCLIPCID_SENTENCEPIECE
WANTED += sentencepiece
endif
FOUND := $(shell PKG_CONFIG='$(PKG_CONFIG)' scripts/find-libs $(WANTED))
PREPROCESS += $(filter-out -I/usr/include,$(filter -I% -D%,$(FOUND))) $(CPPFLAGS)
LIBS := -Wl,--as-needed $(if $(FAISS_ON),-lfaiss) $(filter-out -I% -D% -W%,$(FOUND)) -lgomp -lstdc++ -lm -ldl -pthread $(LDLIBS)
# Whatever CFLAGS say, a product and a sum are rounded one by one: the same bytes with each compiler.
COMPILE := $(CC) $(PREPROCESS) -std=c11 $(OPT) $(WARN) $(CFLAGS) -ffp-contract=off -pthread
COMPILE_CXX := $(CXX) $(PREPROCESS) -std=c++17 $(OPT) -Wall -Wextra -Wshadow $(if $(werror),-Werror) $(CXXFLAGS) -ffp-contract=off -pthread
LINK = $(CC) -std=c11 $(OPT) $(CFLAGS) -pthread $(LDFLAGS)

# The CUDA device: CUDA=1 puts it into the tools, and needs nvcc. The tests run its sources on the processor, as C++
# against the stand-in of tests/cuda-on-cpu; with CUDA=1, on the GPU.
NVCC ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_ARCH ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]
COMPILE_CUDA = $(NVCC) -std=c++20 -O3 -Ilib $(CUDA_ARCH)
ifdef CUDA
BUILD := $(BUILD)-cuda
endif
CUDA_SRC := $(wildcard lib/device/cuda/*.cu)
CUDA_NV := $(patsubst %.cu,$(BUILD)/%.o,$(CUDA_SRC))
CUDA_EMU := $(patsubst lib/device/cuda/%.cu,$(BUILD)/cuda-on-cpu/%.o,$(CUDA_SRC)) \
	$(patsubst tests/cuda-on-cpu/%.cc,$(BUILD)/cuda-on-cpu/stand-in/%.o,$(wildcard tests/cuda-on-cpu/*.cc))
EMULATE := $(CXX) -std=c++20 -O2 -g -Wall -Wextra -Wshadow -Wno-unknown-pragmas $(if $(werror),-Werror) -Itests/cuda-on-cpu -Ilib $(CXXFLAGS) -ffp-contract=off
CUDA_TEST := $(if $(CUDA),$(CUDA_NV),$(CUDA_EMU))
ifdef CUDA
ifeq ($(NVCC),)
$(error CUDA=1 needs nvcc, of the CUDA Toolkit 12 or later: put it into PATH or say NVCC=/path/to/nvcc)
endif
CUDA_HOME := $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
LIBS += -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcublasLt -lcudart_static -lrt -ldl
TOOL_CUDA = $(CUDA_NV)
endif

# Ranks over MPI: a plug-in, so that no tool needs an MPI (plugins/comm-mpi.c).
MPICC ?= mpicc
# NCCL=1, with CUDA=1: from GPU to GPU (plugins/comm-nccl.c).
PLUGINS := $(if $(MPI),$(BIN)/comm-mpi.so) $(if $(NCCL),$(BIN)/comm-nccl.so)

# The flags that everything was built with, warnings left out: other flags, and all is built again.
FLAGS := $(strip $(filter-out -W%,$(COMPILE) $(COMPILE_CXX) $(EMULATE)) $(LDFLAGS) $(LIBS) $(AR) $(if $(CUDA),$(COMPILE_CUDA)))
ifneq ($(strip $(file <$(BUILD)/flags)),$(FLAGS))
$(BUILD)/flags: FORCE
endif
$(BUILD)/flags:
	@mkdir -p $(@D) && printf '%s\n' '$(subst ','\'',$(FLAGS))' >$@
.PHONY: FORCE
MADE_WITH := $(BUILD)/flags

# The commit, for --version: linked into the tools alone, which so are all that is made again at a commit.
COMMIT := $(if $(wildcard .git),$(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null))
ifneq ($(strip $(file <$(BUILD)/commit.c)),const char build_commit[] = "$(COMMIT)";)
$(BUILD)/commit.c: FORCE
endif
$(BUILD)/commit.c:
	@mkdir -p $(@D) && echo 'const char build_commit[] = "$(COMMIT)";' >$@
$(BUILD)/commit.o: $(BUILD)/commit.c $(MADE_WITH)
	$(say)$(COMPILE) -include base/version.h -c -o $@ $<

# One short line a file; V=1 shows the commands.
say = $(if $(V),,@echo '  $@';)
V ?=

LIB_OBJ := $(patsubst lib/%.c,$(BUILD)/lib/%.o,$(shell find lib -name "*.c" | LC_ALL=C sort))
LIB_OBJ += $(if $(filter yes,$(sentencepiece)),$(BUILD)/lib/text/pieces.o) $(if $(FAISS_ON),$(BUILD)/lib/cluster/faiss-train.o)
TOOLS := $(patsubst tools/%.c,$(BIN)/%,$(wildcard tools/*.c))
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(shell find tests/unit -name '*.c' | LC_ALL=C sort))
FUZZ := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(shell find tests/fuzz -name '*.c' ! -name driver.c | LC_ALL=C sort))
BENCH := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c)) $(if $(CUDA),$(BUILD)/bench/gpu-profile.so)
GOLDEN := $(BIN)/golden $(BIN)/golden-cuda
# Tools that can open the device "cuda" in the tests.
CUDA_TOOLS := $(patsubst %,$(BUILD)/cuda-tools/%,teacher-embed distill-train kmeans-cluster sem-balance)
JOBS := $(shell nproc)
SOURCES = $(shell git ls-files -co --exclude-standard '*.c' '*.h')

## all: the tools, into bin/; MPI=1: also comm-mpi.so, by MPICC; CUDA=1 NCCL=1: also comm-nccl.so
all: $(TOOLS) $(PLUGINS)
## tests: the test programs and fuzzers, not run
tests: $(UNIT) $(FUZZ) $(GOLDEN) $(CUDA_TOOLS)
## plants: tests of the CUDA device with a fault in each of its files
## gpu-kit: what scripts/gpu-proof needs on a machine with a card, in one archive (needs nvcc)
gpu-kit:
	$(MAKE) -j$(JOBS) CUDA=1 all tests bench
	scripts/gpu-kit build/gpu-kit.tar.xz
## cuda: the CUDA device's objects alone, by nvcc (make CUDA=1 cuda)
cuda: $(CUDA_NV)
## bench: the benchmark programs, not run (bench/README.md)
bench: $(BENCH)

# The list of objects: the archive is made again when one is gone, too.
ifneq ($(strip $(file <$(BUILD)/objects)),$(strip $(LIB_OBJ)))
$(BUILD)/objects: FORCE
endif
$(BUILD)/objects:
	@mkdir -p $(@D) && printf '%s\n' '$(strip $(LIB_OBJ))' >$@
$(BUILD)/libclipcid.a: $(LIB_OBJ) $(BUILD)/objects
	$(say)rm -f $@; $(AR) rcs $@ $(LIB_OBJ)
# TEST_CFLAGS are the tests' alone.
$(BUILD)/tests/%.o: ONLY_TESTS = $(TEST_CFLAGS)
$(BUILD)/%.o: %.c $(MADE_WITH)
	@mkdir -p $(@D)
	$(say)$(COMPILE) $(ONLY_TESTS) -MMD -MP -c -o $@ $<
$(BUILD)/lib/%.o: lib/%.cc $(MADE_WITH)
	@mkdir -p $(@D)
	$(say)$(COMPILE_CXX) -MMD -MP -c -o $@ $<
# A program that is given these objects can open the device "cuda".
$(BUILD)/lib/device/cuda/%.o: lib/device/cuda/%.cu $(MADE_WITH)
	@mkdir -p $(@D)
	$(say)$(COMPILE_CUDA) $(if $(werror),-Werror all-warnings) -MMD -MP -c -o $@ $<
$(BUILD)/cuda-on-cpu/%.o: lib/device/cuda/%.cu $(MADE_WITH)
	@mkdir -p $(@D)
	$(say)$(EMULATE) -x c++ -MMD -MP -c -o $@ $<
$(BUILD)/cuda-on-cpu/stand-in/%.o: tests/cuda-on-cpu/%.cc $(MADE_WITH)
	@mkdir -p $(@D)
	$(say)$(EMULATE) -MMD -MP -c -o $@ $<
$(BUILD)/unit/device/cuda/%: $(BUILD)/tests/unit/device/cuda/%.o $(CUDA_TEST) $(BUILD)/libclipcid.a
	@mkdir -p $(@D)
	$(say)$(LINK) -o $@ $^ $(LIBS)
$(BUILD)/golden-cuda/%.o: tests/golden/%.c $(MADE_WITH)
	@mkdir -p $(@D)
	$(say)$(COMPILE) -DGOLDEN_DEVICE='"cuda"' -MMD -MP -c -o $@ $<
$(BIN)/golden-cuda: $(patsubst tests/golden/%.c,$(BUILD)/golden-cuda/%.o,$(wildcard tests/golden/*.c)) $(CUDA_TEST) $(BUILD)/libclipcid.a
	@mkdir -p $(@D)
	$(say)$(LINK) -o $@ $^ $(LIBS)
# A plug-in for NCCL finds the stand-in's functions in the tool.
$(BUILD)/cuda-tools/%: $(BUILD)/tools/%.o $(CUDA_TEST) $(BUILD)/libclipcid.a
	@mkdir -p $(@D)
	$(say)$(LINK) -rdynamic -o $@ $^ $(LIBS)
$(BIN)/%: $(BUILD)/tools/%.o $(BUILD)/commit.o $(TOOL_CUDA) $(BUILD)/libclipcid.a
	@mkdir -p $(@D)
	$(say)$(LINK) -o $@ $^ $(LIBS)
$(BIN)/comm-nccl.so: plugins/comm-nccl.c lib/comm/backend.h $(MADE_WITH)
	@mkdir -p $(@D)
	$(say)$(CC) -std=c11 -O2 -g $(WARN) -fPIC -shared -Ilib -isystem $(CUDA_HOME)/include -o $@ $< -L$(CUDA_HOME)/lib64 -L$(CUDA_HOME)/lib -lnccl
$(BIN)/%.so: plugins/%.c lib/comm/backend.h $(MADE_WITH)
	@mkdir -p $(@D)
	$(say)$(MPICC) -std=c11 -O2 -g $(WARN) -fPIC -shared -Ilib -o $@ $<
## tsan: programs of tests/cli/tsan.t: what threads and ranks share, under the thread sanitizer; other rooms as they are
TSAN := $(patsubst %,$(BUILD)/tsan/%,tools/distill-train $(patsubst %,tests/unit/%-test,comm/comm losses/losses train/ranks))
TSAN_OBJ := $(patsubst lib/%.c,$(BUILD)/tsan/lib/%.o,$(wildcard $(patsubst %,lib/%/*.c,comm feed losses runs system train)))
$(BUILD)/tsan/%.o: %.c $(MADE_WITH)
	@mkdir -p $(@D)
	$(say)$(COMPILE) -fsanitize=thread -MMD -MP -c -o $@ $<
tsan: $(TSAN)
$(TSAN): %: %.o $(TSAN_OBJ) $(BUILD)/commit.o $(BUILD)/libclipcid.a
	$(say)$(LINK) -fsanitize=thread -o $@ $^ $(LIBS)
$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(BUILD)/libclipcid.a
	@mkdir -p $(@D)
	$(say)$(LINK) -o $@ $^ $(LIBS)
$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/driver.o $(BUILD)/libclipcid.a
	@mkdir -p $(@D)
	$(say)$(LINK) -o $@ $^ $(LIBS)
$(BUILD)/bench/%: $(BUILD)/bench/%.o $(TOOL_CUDA) $(BUILD)/libclipcid.a
	$(say)$(LINK) -o $@ $^ $(LIBS)
# The driver loads it into a program whose kernels are to be timed; libcupti is the CUDA Toolkit's.
$(BUILD)/bench/gpu-profile.so: bench/gpu/profile.c $(MADE_WITH)
	@mkdir -p $(@D)
	$(say)$(COMPILE) -isystem $(CUDA_HOME)/include -fPIC -shared -o $@ $< -L$(CUDA_HOME)/lib64 -L$(CUDA_HOME)/extras/CUPTI/lib64 -L$(CUDA_HOME)/lib -lcupti
$(BIN)/golden: $(patsubst tests/%.c,$(BUILD)/tests/%.o,$(wildcard tests/golden/*.c)) $(BUILD)/libclipcid.a
	@mkdir -p $(@D)
	$(say)$(LINK) -o $@ $^ $(LIBS)
# Tests of the device with a fault planted in one file of lib/device/cuda (tests/cli/gpu-proof.t).
PLANTS := attention attention-bwd elementwise gemm glu loss norm optim reduce rows search
plants: $(PLANTS:%=$(BUILD)/plant/%/cuda-test)
$(BUILD)/plant/%.o: lib/device/cuda/%.cu $(MADE_WITH)
	@mkdir -p $(@D)
	$(say)$(EMULATE) -x c++ -DPLANT=$(subst -,_,$*) -MMD -MP -c -o $@ $<
$(BUILD)/plant/search/cuda-test: PLANTED := cuda-search-test
PLANTED = cuda-test
$(BUILD)/plant/%/cuda-test: $(BUILD)/plant/%.o $(CUDA_EMU) $(BUILD)/tests/unit/device/cuda/cuda-test.o $(BUILD)/tests/unit/device/cuda/cuda-search-test.o $(BUILD)/libclipcid.a
	@mkdir -p $(@D)
	$(say)$(LINK) -o $@ $< $(BUILD)/tests/unit/device/cuda/$(PLANTED).o $(filter-out $(BUILD)/cuda-on-cpu/$*.o,$(CUDA_EMU)) $(BUILD)/libclipcid.a $(LIBS)
.SECONDARY:

## deps: install the missing Debian packages (as root), or say which are missing
deps:
	@scripts/deps
## syntax: the compiler's opinion alone (make CC=clang werror=1 syntax)
syntax:
	git ls-files '*.c' ':!bench/gpu' ':!plugins' | xargs -P $(JOBS) -n 8 $(COMPILE) -fsyntax-only
# The longest tests begin first, and one more runs at a time than there are processors, because some wait.
SLOW_TESTS := $(patsubst %,tests/cli/%.t,fuzz unit pipeline-slurm golden-teachers pipeline-stop golden-cuda distill-train \
	pipeline-teachers ranks embed-shards pipeline)
PROVE := env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL prove --timer -j$(shell expr $(JOBS) + 1) $(SLOW_TESTS) $(filter-out $(SLOW_TESTS),$(wildcard tests/cli/*.t))
## check: set up, build, and run every test, the sanitizer build included
check: deps
	$(MAKE) -j$(JOBS) --output-sync=target werror=1 all tests bench plants
	$(MAKE) -j$(JOBS) --output-sync=target asan=1 werror=1 all tests
	$(if $(NVCC),$(MAKE) -j$(JOBS) werror=1 BUILD=build/check CUDA_ARCH=-arch=sm_90 cuda)
	$(if $(shell command -v clang),$(MAKE) CC=clang werror=1 syntax)
	scripts/lint
	BIN=bin BUILD=build/release $(PROVE)
	BIN=build/asan/bin BUILD=build/asan ASAN=1 $(PROVE)
## demo: set up, build, fetch real pictures and run everything on them, to a report; TEACHER=DIR takes that teacher
demo:
	@DEMO=1 scripts/deps
	+@V=$(V) TEACHER=$(TEACHER) demo/run
TEACHER ?=
## format: lay the sources out as .clang-format says
format:
	clang-format -i $(SOURCES)
## install: tools, man pages and the pipeline under PREFIX (DESTDIR honoured); PREFIX/bin/clip-cid runs it from any folder
ROOT = $(DESTDIR)$(PREFIX)
HOUSE = $(ROOT)/share/clip-cid
# Not needed to run a pipeline.
AT_HOME := $(wildcard $(addprefix scripts/,clip-cid completions deps find-libs gpu-* lint* bundle portable))
install: all
	install -d $(ROOT)/bin $(HOUSE)/scripts $(HOUSE)/conf/models $(addprefix $(ROOT)/share/,man/man1 man/man5 man/man7 doc/clip-cid bash-completion/completions)
	install -m 755 $(TOOLS) scripts/clip-cid $(ROOT)/bin
	for p in $(PLUGINS); do install -D -m 755 -t $(ROOT)/lib/clip-cid $$p; done
	install -D -m 644 -t $(HOUSE)/plugins plugins/*.c
	install -D -m 644 -t $(HOUSE)/plugins/comm lib/comm/backend.h
	for m in man/*.[157]; do install -m 644 $$m $(ROOT)/share/man/man$${m##*.}; done
	install -m 755 $(filter-out $(AT_HOME),$(wildcard scripts/*)) $(HOUSE)/scripts
	install -m 644 pipeline.mk $(HOUSE)
	install -m 644 $(wildcard conf/*.mk) $(HOUSE)/conf
	install -m 644 $(wildcard conf/models/*.json) $(HOUSE)/conf/models
	install -D -m 644 -t $(HOUSE)/conf/tokenizer/clip conf/tokenizer/clip/*
	install -m 644 README.md NEWS.md LICENSE $(ROOT)/share/doc/clip-cid
	scripts/completions $(ROOT)/share/bash-completion/completions scripts/clip-cid $(TOOLS)
## bundle: all of it with its shared libraries in build/clip-cid-VERSION-linux-x86_64.tar.xz (CUDA=1: ...-cuda.tar.xz)
bundle:
	rm -rf $(BUILD)/bundle
	$(MAKE) -j$(JOBS) BIN=$(BUILD)/bundle/tools all
	$(MAKE) -o all BIN=$(BUILD)/bundle/tools install DESTDIR= PREFIX=$(CURDIR)/$(BUILD)/bundle/clip-cid
	scripts/bundle $(if $(CUDA),--cuda) $(BUILD)/bundle/clip-cid build/clip-cid-$(VERSION)-linux-$(shell uname -m)$(if $(CUDA),-cuda).tar.xz
## pages: the man pages as HTML, into build/pages (needs mandoc)
pages:
	@mkdir -p build/pages
	@for m in man/*.[157]; do n=$${m#man/}; mandoc -T html -O style=mandoc.css,man=%N.%S.html,toc "$$m" >"build/pages/$$n.html"; done
	@printf 'body{font:15px/1.5 system-ui,sans-serif;max-width:52em;margin:2em auto;padding:0 1em}pre,code{font-family:monospace}table.head,table.foot{width:100%%}\n' >build/pages/mandoc.css
	@echo build/pages/clip-cid-tutorial.7.html
## clean: remove everything built
clean:
	rm -rf build bin
## help: this list
help:
	@sed -n 's/^## //p' Makefile
.PHONY: pages all tests tsan plants gpu-kit cuda bench deps syntax check demo format install bundle clean help
-include $(shell find build -path build/ci -prune -o -type f -name '*.d' -print 2>/dev/null)
