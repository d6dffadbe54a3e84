# clip-cid: build, test, install. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += -rR --no-print-directory
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := all

VERSION := 0.1.0
PREFIX ?= /usr/local
CC := gcc
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
CPPFLAGS += -D_GNU_SOURCE -DCLIPCID_VERSION='"$(VERSION)"' -Ilib -Itests
CFLAGS += -std=c11 $(OPT) $(WARN) -ffp-contract=off -pthread
# FAISS's C interface, which Debian does not build (scripts/faiss-c), and only what a program uses of all these.
FAISS_C := build/faiss/libfaiss_c.a
LDLIBS := -Wl,--as-needed $(FAISS_C) -lfaiss -ldnnl -lopenblas -lgomp -lstdc++ -larchive -ljpeg -lwebpdemux -lwebp -lutf8proc -lcjson -lz -lxxhash -lm -ldl -pthread

# Shards on S3 and the web (lib/remote), where libcurl and libcrypto are found; remote=no leaves them out.
remote ?= $(if $(shell pkg-config --exists libcurl libcrypto && echo yes),yes,no)
ifeq ($(remote),yes)
CPPFLAGS += -DCLIPCID_REMOTE
LDLIBS += -lcurl -lcrypto
endif
# Tokenizers of SigLIP, Gemma, mT5 and XLM-V, where libsentencepiece is found; sentencepiece=no leaves them out.
sentencepiece ?= $(if $(shell pkg-config --exists sentencepiece && echo yes),yes,no)
ifeq ($(sentencepiece),yes)
CPPFLAGS += -DCLIPCID_SENTENCEPIECE
LDLIBS += -lsentencepiece
endif

# The CUDA device: CUDA=1 puts it into the tools, and needs nvcc. The tests run its sources on the processor, as C++
# against the stand-in of tests/cuda-on-cpu; with CUDA=1, on the GPU.
CXX := g++
NVCC ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_ARCH ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]
ifdef CUDA
BUILD := $(BUILD)-cuda
endif
CUDA_SRC := $(wildcard lib/device/cuda/*.cu)
CUDA_NV := $(patsubst %.cu,$(BUILD)/%.o,$(CUDA_SRC))
CUDA_EMU := $(patsubst lib/device/cuda/%.cu,$(BUILD)/cuda-on-cpu/%.o,$(CUDA_SRC)) \
	$(patsubst tests/cuda-on-cpu/%.cc,$(BUILD)/cuda-on-cpu/stand-in/%.o,$(wildcard tests/cuda-on-cpu/*.cc))
CXXFLAGS += -std=c++20 -O2 -g -ffp-contract=off -Wall -Wextra -Wshadow -Wno-unknown-pragmas $(if $(werror),-Werror) -Itests/cuda-on-cpu -Ilib
CUDA_TEST := $(if $(CUDA),$(CUDA_NV),$(CUDA_EMU))
ifdef CUDA
ifeq ($(NVCC),)
$(error CUDA=1 needs nvcc, of the CUDA Toolkit 12 or later: put it into PATH or say NVCC=/path/to/nvcc)
endif
CUDA_HOME := $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
LDLIBS += -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcublasLt -lcudart_static -lrt -ldl
TOOL_CUDA = $(CUDA_NV)
endif

# Ranks over MPI: a plug-in, so that no tool needs an MPI (plugins/comm-mpi.c).
MPICC ?= mpicc
PLUGINS := $(if $(MPI),$(BIN)/comm-mpi.so)

# One short line a file; V=1 shows the commands.
say = $(if $(V),,@echo '  $@';)
V ?=

LIB_OBJ := $(patsubst lib/%.c,$(BUILD)/lib/%.o,$(shell find lib -name "*.c" | LC_ALL=C sort))
LIB_OBJ += $(if $(filter yes,$(sentencepiece)),$(BUILD)/lib/text/pieces.o)
TOOLS := $(patsubst tools/%.c,$(BIN)/%,$(wildcard tools/*.c))
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(shell find tests/unit -name '*.c' | LC_ALL=C sort))
FUZZ := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(shell find tests/fuzz -name '*.c' ! -name driver.c | LC_ALL=C sort))
BENCH := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c)) $(if $(CUDA),$(BUILD)/bench/gpu-profile.so)
GOLDEN := $(BIN)/golden $(BIN)/golden-cuda
# Tools that can open the device "cuda" in the tests.
CUDA_TOOLS := $(patsubst %,$(BUILD)/cuda-tools/%,teacher-embed distill-train kmeans-cluster sem-balance)
JOBS := $(shell nproc)
SOURCES = $(shell git ls-files -co --exclude-standard '*.c' '*.h')

## all: the tools, into bin/; MPI=1: also comm-mpi.so, by MPICC
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

$(BUILD)/libclipcid.a: $(LIB_OBJ)
	$(say)rm -f $@; ar rcs $@ $^
$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(say)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/lib/text/pieces.o: lib/text/pieces.cc Makefile
	@mkdir -p $(@D)
	$(say)$(CXX) $(CPPFLAGS) -std=c++17 $(OPT) -Wall -Wextra -Wshadow $(if $(werror),-Werror) -MMD -MP -c -o $@ $<
# A program that is given these objects can open the device "cuda".
$(BUILD)/lib/device/cuda/%.o: lib/device/cuda/%.cu Makefile
	@mkdir -p $(@D)
	$(say)$(NVCC) -std=c++20 -O3 -Ilib $(CUDA_ARCH) $(if $(werror),-Werror all-warnings) -MMD -MP -c -o $@ $<
$(BUILD)/cuda-on-cpu/%.o: lib/device/cuda/%.cu Makefile
	@mkdir -p $(@D)
	$(say)$(CXX) -x c++ $(CXXFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/cuda-on-cpu/stand-in/%.o: tests/cuda-on-cpu/%.cc Makefile
	@mkdir -p $(@D)
	$(say)$(CXX) $(CXXFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/unit/device/cuda/%: $(BUILD)/tests/unit/device/cuda/%.o $(CUDA_TEST) $(BUILD)/libclipcid.a | $(FAISS_C)
	@mkdir -p $(@D)
	$(say)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/golden-cuda/%.o: tests/golden/%.c Makefile
	@mkdir -p $(@D)
	$(say)$(CC) $(CPPFLAGS) -DGOLDEN_DEVICE='"cuda"' $(CFLAGS) -MMD -MP -c -o $@ $<
$(BIN)/golden-cuda: $(patsubst tests/golden/%.c,$(BUILD)/golden-cuda/%.o,$(wildcard tests/golden/*.c)) $(CUDA_TEST) $(BUILD)/libclipcid.a | $(FAISS_C)
	@mkdir -p $(@D)
	$(say)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/cuda-tools/%: $(BUILD)/tools/%.o $(CUDA_TEST) $(BUILD)/libclipcid.a | $(FAISS_C)
	@mkdir -p $(@D)
	$(say)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
$(BIN)/%: $(BUILD)/tools/%.o $(TOOL_CUDA) $(BUILD)/libclipcid.a | $(FAISS_C)
	@mkdir -p $(@D)
	$(say)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
$(BIN)/%.so: plugins/%.c lib/comm/backend.h Makefile
	@mkdir -p $(@D)
	$(say)$(MPICC) -std=c11 -O2 -g $(WARN) -fPIC -shared -Ilib -o $@ $<
$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(BUILD)/libclipcid.a | $(FAISS_C)
	@mkdir -p $(@D)
	$(say)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/driver.o $(BUILD)/libclipcid.a | $(FAISS_C)
	@mkdir -p $(@D)
	$(say)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/bench/%: $(BUILD)/bench/%.o $(TOOL_CUDA) $(BUILD)/libclipcid.a | $(FAISS_C)
	$(say)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
# The driver loads it into a program whose kernels are to be timed; libcupti is the CUDA Toolkit's.
$(BUILD)/bench/gpu-profile.so: bench/gpu/profile.c Makefile
	@mkdir -p $(@D)
	$(say)$(CC) $(CPPFLAGS) -isystem $(CUDA_HOME)/include $(CFLAGS) -fPIC -shared -o $@ $< -L$(CUDA_HOME)/lib64 -L$(CUDA_HOME)/extras/CUPTI/lib64 -L$(CUDA_HOME)/lib -lcupti
$(BIN)/golden: $(patsubst tests/%.c,$(BUILD)/tests/%.o,$(wildcard tests/golden/*.c)) $(BUILD)/libclipcid.a | $(FAISS_C)
	@mkdir -p $(@D)
	$(say)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
# Tests of the device with a fault planted in one file of lib/device/cuda (tests/cli/gpu-proof.t).
PLANTS := attention attention-bwd elementwise gemm glu loss norm optim reduce rows search
plants: $(PLANTS:%=$(BUILD)/plant/%/cuda-test)
$(BUILD)/plant/%.o: lib/device/cuda/%.cu Makefile
	@mkdir -p $(@D)
	$(say)$(CXX) -x c++ $(CXXFLAGS) -DPLANT=$(subst -,_,$*) -MMD -MP -c -o $@ $<
$(BUILD)/plant/search/cuda-test: PLANTED := cuda-search-test
PLANTED = cuda-test
$(BUILD)/plant/%/cuda-test: $(BUILD)/plant/%.o $(CUDA_EMU) $(BUILD)/tests/unit/device/cuda/cuda-test.o $(BUILD)/tests/unit/device/cuda/cuda-search-test.o $(BUILD)/libclipcid.a | $(FAISS_C)
	@mkdir -p $(@D)
	$(say)$(CC) $(CFLAGS) -o $@ $< $(BUILD)/tests/unit/device/cuda/$(PLANTED).o $(filter-out $(BUILD)/cuda-on-cpu/$*.o,$(CUDA_EMU)) $(BUILD)/libclipcid.a $(LDLIBS)
$(FAISS_C):
	scripts/faiss-c $@
.SECONDARY:

## deps: install the missing Debian packages (as root), or say which are missing
deps:
	@scripts/deps
## syntax: the compiler's opinion alone (make CC=clang werror=1 syntax)
syntax:
	git ls-files '*.c' ':!bench/gpu' ':!plugins' | xargs -P $(JOBS) -n 8 $(CC) $(CPPFLAGS) $(CFLAGS) -fsyntax-only
## check: set up, build, and run every test, the sanitizer build included
check: deps
	$(MAKE) -j$(JOBS) --output-sync=target werror=1 all tests bench plants
	$(MAKE) -j$(JOBS) --output-sync=target asan=1 werror=1 all tests
	$(if $(NVCC),$(MAKE) -j$(JOBS) werror=1 BUILD=build/check CUDA_ARCH=-arch=sm_90 cuda)
	$(if $(shell command -v clang),$(MAKE) CC=clang werror=1 syntax)
	scripts/lint
	BIN=bin BUILD=build/release prove -j$(JOBS) tests/cli
	BIN=build/asan/bin BUILD=build/asan ASAN=1 prove -j$(JOBS) tests/cli
## demo: set up, build, fetch real pictures and run everything on them; a report in work/emoji
demo: deps
	@DEMO=1 scripts/deps
	$(if $(V),,@)$(MAKE) -j$(JOBS) all bench $(if $(V),,-s >/dev/null)
	$(if $(V),,@)demo/run
## format: lay the sources out as .clang-format says
format:
	clang-format -i $(SOURCES)
## install: tools and man pages under PREFIX (DESTDIR honoured)
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man7
	for t in $(TOOLS); do install -m 755 $$t $(DESTDIR)$(PREFIX)/bin; done
	for p in $(PLUGINS); do install -D -m 755 -t $(DESTDIR)$(PREFIX)/lib/clip-cid $$p; done
	for m in man/*.[157]; do [ -e "$$m" ] || continue; install -m 644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}; done
## clean: remove everything built
clean:
	rm -rf build bin
## help: this list
help:
	@sed -n 's/^## //p' Makefile
.PHONY: all tests plants gpu-kit cuda bench deps syntax check demo format install clean help
-include $(shell find build -name '*.d' 2>/dev/null)
