noinst_LIBRARIES += client/libfleetctl.a
client_libfleetctl_a_CFLAGS = $(AM_CFLAGS) $(SIZE_CFLAGS) $(CURL_CFLAGS) $(SMARTCOLS_CFLAGS)
CLIENT_SOURCES = \
	client/fleetctl.h client/fleetctl.c client/client.h client/client.c client/connection.h client/connection.c \
	client/options.h client/options.c client/output.h client/output.c client/progress.h client/progress.c client/follow.h client/follow.c client/wait.h client/wait_internal.h client/wait_state.c client/wait.c client/state_text.h client/state_text.c \
	client/machines.c client/files.h client/files_internal.h client/files.c client/submit_internal.h client/submit.c client/submit_check.c client/replace.h client/replace.c client/restart.h client/restart.c client/report.h client/report.c client/control.c client/list.c client/list_columns.h client/list_columns.c client/listing.c client/unit_status.h client/unit_status.c client/journal.c client/log.c client/overview.h client/overview.c client/conditions.c client/voter_text.h client/voter_text.c client/kv.h client/kv.c \
	client/patterns.c client/directory.c client/inspect.c client/import.h client/import.c client/import_units.c client/import_folder.c client/backup.h client/backup.c client/export.h client/export.c client/snapshot.h client/snapshot.c client/edit.c client/subprocess.h client/temporary.h client/temporary.c client/ssh.h client/ssh.c client/members.c \
	client/suggest.h client/suggest.c client/topics.h client/topics.c client/cluster.c client/times.h client/times.c client/events.h client/events.c client/events_row.c client/kv_lock.c client/kv_rm.c client/kv_files.c client/kv_v1.c client/token.c client/join.c client/leave.c client/maintenance.c client/move.c client/reboot.c client/revisions.c client/rollout.h client/rollout.c client/rollout_text.h client/rollout_text.c client/recover.c client/cert.c client/verbs.c
if UNITY_BUILD
client_libfleetctl_a_SOURCES = client/subprocess.c
nodist_client_libfleetctl_a_SOURCES = client/unity.c
else
client_libfleetctl_a_SOURCES = $(CLIENT_SOURCES) client/subprocess.c
endif

# The topics of "fleetctl help" are sections of these pages.
TOPICS_PAGES = $(top_srcdir)/man/fleet.7.scd $(top_srcdir)/man/fleet-change.7.scd $(top_srcdir)/man/fleet-recovery.7.scd
EXTRA_DIST += client/topics.awk
BUILT_SOURCES += client/topics_text.h
CLEANFILES += client/topics_text.h
client/topics_text.h: $(top_srcdir)/client/topics.awk $(TOPICS_PAGES)
	$(AM_V_GEN)$(MKDIR_P) client && $(AWK) -f $(top_srcdir)/client/topics.awk $(TOPICS_PAGES) >$@.tmp && mv $@.tmp $@
client/libfleetctl_a-topics.$(OBJEXT) client/libfleetctl_a-unity.$(OBJEXT): client/topics_text.h

# Of io/, the client uses certificates only: no loop and no HTTP are linked.
CLIENT_LIBS = client/libfleetctl.a io/libio.a $(UNITS_LIBS)
bin_PROGRAMS += client/fleetctl
client_fleetctl_SOURCES = client/main.c
client_fleetctl_LDADD = $(CLIENT_LIBS) $(CURL_LIBS) $(SMARTCOLS_LIBS)

# The whole program against a fleetd made of Python.
TESTS += tests/client/test-fleetctl.py
EXTRA_DIST += tests/client/test-fleetctl.py tests/client/fake_fleetd.py tests/client/bad_input.py

bashcompletiondir = $(datadir)/bash-completion/completions
dist_bashcompletion_DATA = client/completion/fleetctl
zshcompletiondir = $(datadir)/zsh/site-functions
dist_zshcompletion_DATA = client/completion/_fleetctl

if HAVE_CMOCKA
# The whole program in the process of the test, with another libcurl, and a time that it need not wait for.
CLIENT_TESTS = tests/unit/test-client tests/unit/test-client_memory tests/unit/test-conditions tests/unit/test-snapshot
check_PROGRAMS += $(CLIENT_TESTS)
TESTS += $(CLIENT_TESTS)
EXTRA_DIST += tests/client/cases
CLIENT_CASES = tests/lib/fleetctl_cases.h tests/lib/fleetctl_cases.c tests/lib/fake_curl.h tests/lib/fake_curl.c tests/lib/scratch.h tests/lib/scratch.c
CLIENT_WRAPS = -Wl,--wrap=clock_gettime,--wrap=gethostname,--wrap=nanosleep,--wrap=sigtimedwait,--wrap=usleep

tests_unit_test_client_SOURCES = tests/unit/test-client.c $(CLIENT_CASES)
tests_unit_test_client_CFLAGS = $(TEST_CFLAGS) $(CURL_CFLAGS)
tests_unit_test_client_LDFLAGS = $(AM_LDFLAGS) $(CLIENT_WRAPS)
tests_unit_test_client_LDADD = $(CLIENT_LIBS) $(SMARTCOLS_LIBS) $(CMOCKA_LIBS)

tests_unit_test_snapshot_LDADD = $(CLIENT_LIBS) $(CURL_LIBS) $(SMARTCOLS_LIBS) $(CMOCKA_LIBS)

tests_unit_test_conditions_SOURCES = tests/unit/test-conditions.c
tests_unit_test_conditions_CFLAGS = $(TEST_CFLAGS) $(CURL_CFLAGS)
tests_unit_test_conditions_LDADD = $(CLIENT_LIBS) $(CURL_LIBS) $(SMARTCOLS_LIBS) $(CMOCKA_LIBS)

tests_unit_test_client_memory_SOURCES = tests/unit/test-client_memory.c $(CLIENT_CASES) tests/lib/alloc.h tests/lib/alloc.c tests/lib/alloc_spared.h
tests_unit_test_client_memory_CFLAGS = $(TEST_CFLAGS) $(CURL_CFLAGS) -include tests/lib/alloc_spared.h
tests_unit_test_client_memory_LDFLAGS = $(FAILING_ALLOCATIONS) $(CLIENT_WRAPS)
tests_unit_test_client_memory_LDADD = $(CLIENT_LIBS) $(SMARTCOLS_LIBS) $(CMOCKA_LIBS)
endif

# The whole program with another libcurl, and a time that it need not wait for.
FUZZERS += tests/fuzz/fuzz-client
tests_fuzz_fuzz_client_CFLAGS = $(AM_CFLAGS) $(CURL_CFLAGS) $(SMARTCOLS_CFLAGS)
tests_fuzz_fuzz_client_SOURCES = tests/fuzz/client.c tests/fuzz/standalone.c tests/lib/scratch.h tests/lib/scratch.c
tests_fuzz_fuzz_client_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=clock_monotonic_ms,--wrap=usleep,--wrap=subprocess_run
tests_fuzz_fuzz_client_LDADD = $(CLIENT_LIBS) $(SMARTCOLS_LIBS)
