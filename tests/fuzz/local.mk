# A fuzz target: tests/fuzz/NAME.c with LLVMFuzzerTestOneInput(), its first inputs in tests/fuzz/corpus/NAME/. The folder
# that owns the decoder adds to FUZZERS in its local.mk:
#
#   FUZZERS += tests/fuzz/fuzz-NAME
#   tests_fuzz_fuzz_NAME_SOURCES = tests/fuzz/NAME.c tests/fuzz/standalone.c
#   tests_fuzz_fuzz_NAME_LDADD = ...
#
# tests/fuzz/test-corpora.sh runs them all.
check_PROGRAMS += $(FUZZERS)
EXTRA_DIST += tests/fuzz/test-corpora.sh tests/fuzz/corpus
