# A fuzz target: tests/fuzz/NAME.c with LLVMFuzzerTestOneInput(), its first inputs in tests/fuzz/corpus/NAME/. The folder
# that owns the decoder adds to FUZZERS in its local.mk:
#
#   FUZZERS += tests/fuzz/fuzz-NAME
#   tests_fuzz_fuzz_NAME_SOURCES = tests/fuzz/NAME.c tests/fuzz/standalone.c
#   tests_fuzz_fuzz_NAME_LDADD = ...
#
# tests/fuzz/test-corpora.sh runs them all; tests/fuzz/decoders lists the targets of each file.

# Targets of decoders that no single folder owns, or of a lower layer.
FUZZERS += tests/fuzz/fuzz-parse tests/fuzz/fuzz-name tests/fuzz/fuzz-tree_record tests/fuzz/fuzz-registry tests/fuzz/fuzz-settings \
	tests/fuzz/fuzz-host_files tests/fuzz/fuzz-remote_command tests/fuzz/fuzz-forward tests/fuzz/fuzz-enter_message tests/fuzz/fuzz-backup_file \
	tests/fuzz/fuzz-attached_frames tests/fuzz/fuzz-http_status
tests_fuzz_fuzz_http_status_SOURCES = tests/fuzz/http_status.c tests/fuzz/standalone.c
tests_fuzz_fuzz_http_status_LDADD = $(FLEETD_LIBS)
tests_fuzz_fuzz_parse_SOURCES = tests/fuzz/parse.c tests/fuzz/standalone.c
tests_fuzz_fuzz_parse_LDADD = base/libbase.a
tests_fuzz_fuzz_backup_file_SOURCES = tests/fuzz/backup_file.c tests/fuzz/standalone.c
tests_fuzz_fuzz_backup_file_LDADD = base/libbase.a
tests_fuzz_fuzz_name_SOURCES = tests/fuzz/name.c tests/fuzz/standalone.c
tests_fuzz_fuzz_name_LDADD = kvstore/libkvstore.a peers/libpeers.a $(UNITS_LIBS) $(LMDB_LIBS)
tests_fuzz_fuzz_tree_record_SOURCES = tests/fuzz/tree_record.c tests/fuzz/standalone.c
tests_fuzz_fuzz_tree_record_LDADD = kvstore/libkvstore.a peers/libpeers.a io/libio.a base/libbase.a $(LMDB_LIBS) $(UV_LIBS) -lpthread
tests_fuzz_fuzz_registry_SOURCES = tests/fuzz/registry.c tests/fuzz/standalone.c
tests_fuzz_fuzz_registry_LDADD = $(FLEETD_LIBS)
tests_fuzz_fuzz_settings_SOURCES = tests/fuzz/settings.c tests/fuzz/standalone.c tests/lib/scratch.h tests/lib/scratch.c
tests_fuzz_fuzz_settings_LDADD = $(FLEETD_LIBS)
tests_fuzz_fuzz_host_files_SOURCES = tests/fuzz/host_files.c tests/fuzz/standalone.c tests/lib/scratch.h tests/lib/scratch.c
tests_fuzz_fuzz_host_files_LDADD = $(FLEETD_LIBS)
tests_fuzz_fuzz_attached_frames_SOURCES = tests/fuzz/attached_frames.c tests/fuzz/standalone.c
tests_fuzz_fuzz_attached_frames_LDADD = $(FLEETD_LIBS)
tests_fuzz_fuzz_enter_message_SOURCES = tests/fuzz/enter_message.c tests/fuzz/standalone.c
tests_fuzz_fuzz_enter_message_LDADD = $(FLEETD_LIBS)
tests_fuzz_fuzz_forward_SOURCES = tests/fuzz/forward.c tests/fuzz/standalone.c
tests_fuzz_fuzz_forward_LDADD = $(FLEETD_LIBS)
tests_fuzz_fuzz_remote_command_SOURCES = tests/fuzz/remote_command.c tests/fuzz/standalone.c
tests_fuzz_fuzz_remote_command_LDADD = $(FLEETD_LIBS)

check_PROGRAMS += $(FUZZERS)
EXTRA_DIST += tests/fuzz/test-corpora.sh tests/fuzz/decoders tests/fuzz/corpus
