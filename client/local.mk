noinst_LIBRARIES += client/libfleetctl.a
client_libfleetctl_a_CFLAGS = $(AM_CFLAGS) $(SIZE_CFLAGS) $(CURL_CFLAGS) $(SMARTCOLS_CFLAGS) -DPKGLIBEXECDIR='"$(pkglibexecdir)"'

# Each folder is one unit of compilation (see Makefile.am).
CLIENT_SOURCES =
CLIENT_UNITY =
include client/verbs/local.mk
include client/core/local.mk
CLIENT_UNITY += client/unity.c
CLIENT_SOURCES += client/fleetctl.h client/fleetctl.c client/verbs.h client/verbs.c

if UNITY_BUILD
client_libfleetctl_a_SOURCES =
nodist_client_libfleetctl_a_SOURCES = $(CLIENT_UNITY)
else
client_libfleetctl_a_SOURCES = $(CLIENT_SOURCES)
endif

# Of io/, the client uses certificates only: no loop and no HTTP are linked.
CLIENT_LIBS = client/libfleetctl.a io/libio.a $(UNITS_LIBS)
bin_PROGRAMS += client/fleetctl
client_fleetctl_SOURCES = client/main.c
client_fleetctl_LDADD = $(CLIENT_LIBS) $(CURL_LIBS) $(SMARTCOLS_LIBS)

include client/web/local.mk

# The whole program against a fleetd made of Python.
TESTS += tests/client/test-fleetctl.py
EXTRA_DIST += tests/client/test-fleetctl.py tests/client/fake_fleetd.py tests/client/bad_input.py
# The page of fleet-web in a browser: by ./check --full.
EXTRA_DIST += tests/web/browser.py tests/web/counting.py tests/web/fake_web.py tests/web/test-page.py tests/web/test-program.py tests/web/test-proxies.py

bashcompletiondir = $(datadir)/bash-completion/completions
dist_bashcompletion_DATA = client/completion/fleetctl
zshcompletiondir = $(datadir)/zsh/site-functions
dist_zshcompletion_DATA = client/completion/_fleetctl

if HAVE_CMOCKA
# The whole program in the process of the test, with another libcurl, and a time that it need not wait for.
CLIENT_TESTS = tests/unit/test-client tests/unit/test-client_memory tests/unit/test-snapshot tests/unit/test-resolver tests/unit/test-usage
check_PROGRAMS += $(CLIENT_TESTS)
TESTS += $(CLIENT_TESTS)
EXTRA_DIST += tests/client/cases
CLIENT_CASES = tests/lib/fleetctl_cases.h tests/lib/fleetctl_cases.c tests/lib/fake_curl.h tests/lib/fake_curl.c tests/lib/scratch.h tests/lib/scratch.c
CLIENT_WRAPS = -Wl,--wrap=clock_gettime,--wrap=gethostname,--wrap=nanosleep,--wrap=resolver_append,--wrap=sigtimedwait,--wrap=usleep

tests_unit_test_client_SOURCES = tests/unit/test-client.c $(CLIENT_CASES)
tests_unit_test_client_CFLAGS = $(TEST_CFLAGS) $(CURL_CFLAGS)
tests_unit_test_client_LDFLAGS = $(AM_LDFLAGS) $(CLIENT_WRAPS)
tests_unit_test_client_LDADD = $(CLIENT_LIBS) $(SMARTCOLS_LIBS) $(CMOCKA_LIBS)

tests_unit_test_resolver_SOURCES = tests/unit/test-resolver.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_resolver_LDADD = $(CLIENT_LIBS) $(CURL_LIBS) $(SMARTCOLS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_usage_LDADD = $(CLIENT_LIBS) $(CURL_LIBS) $(SMARTCOLS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_snapshot_LDADD = $(CLIENT_LIBS) $(CURL_LIBS) $(SMARTCOLS_LIBS) $(CMOCKA_LIBS)


tests_unit_test_client_memory_SOURCES = tests/unit/test-client_memory.c $(CLIENT_CASES) tests/lib/alloc.h tests/lib/alloc.c tests/lib/alloc_spared.h
tests_unit_test_client_memory_CFLAGS = $(TEST_CFLAGS) $(CURL_CFLAGS) -include tests/lib/alloc_spared.h
tests_unit_test_client_memory_LDFLAGS = $(FAILING_ALLOCATIONS) $(CLIENT_WRAPS)
tests_unit_test_client_memory_LDADD = $(CLIENT_LIBS) $(SMARTCOLS_LIBS) $(CMOCKA_LIBS)
endif

# The whole program with another libcurl, and a time that it need not wait for.
FUZZERS += tests/fuzz/fuzz-client
tests_fuzz_fuzz_client_CFLAGS = $(AM_CFLAGS) $(CURL_CFLAGS) $(SMARTCOLS_CFLAGS)
tests_fuzz_fuzz_client_SOURCES = tests/fuzz/client.c tests/fuzz/standalone.c tests/lib/fake_curl.h tests/lib/fake_curl.c tests/lib/scratch.h \
	tests/lib/scratch.c
tests_fuzz_fuzz_client_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=clock_gettime,--wrap=gethostname,--wrap=nanosleep,--wrap=resolver_append,--wrap=sigtimedwait,--wrap=usleep,--wrap=subprocess_run
tests_fuzz_fuzz_client_LDADD = $(CLIENT_LIBS) $(SMARTCOLS_LIBS)
FUZZERS += tests/fuzz/fuzz-usage
tests_fuzz_fuzz_usage_SOURCES = tests/fuzz/usage.c tests/fuzz/standalone.c
tests_fuzz_fuzz_usage_LDADD = $(CLIENT_LIBS) $(CURL_LIBS) $(SMARTCOLS_LIBS)
