noinst_LIBRARIES += fleetd/libfleetd.a
fleetd_libfleetd_a_CFLAGS = $(AM_CFLAGS) $(SIZE_CFLAGS) $(SYSTEMD_CFLAGS)

# Libraries of a program that links the daemon.
FLEETD_LIBS = fleetd/libfleetd.a units/libunits.a $(KVSTORE_LIBS) $(GNUTLS_LIBS) $(JANSSON_LIBS) $(SYSTEMD_LIBS)

# What tests of several folders share. A host with a clock of its own, and its peers, which the test implements:
QUIET_HOST = tests/lib/components.h tests/lib/quiet_peer.h tests/lib/quiet_peer.c tests/lib/memory_disk.h tests/lib/memory_disk.c tests/lib/scratch.h tests/lib/scratch.c
# The pure rooms need no store, but for how keys are compared. A unit of compilation has all functions of its folder, which a linker that keeps all
# sections (with sanitizers) resolves.
if UNITY_BUILD
FLEETD_PURE_LIBS = $(FLEETD_LIBS) $(CMOCKA_LIBS)
else
FLEETD_PURE_LIBS = fleetd/libfleetd.a kvstore/libkvstore.a peers/libpeers.a $(UNITS_LIBS) $(LMDB_LIBS) $(CMOCKA_LIBS)
endif
FLEETD_CLUSTER_VIEW = tests/lib/cluster_view.h tests/lib/words_of.h tests/lib/cluster_view.c
FLEETD_POLICY_TABLE = tests/lib/policy_table.h tests/lib/policy_table.c $(FLEETD_CLUSTER_VIEW)
FLEETD_HOST = tests/lib/components.h tests/lib/host.h tests/lib/host.c tests/lib/scratch.h tests/lib/scratch.c
LEADER = tests/lib/leader.h tests/lib/leader.c
LEADER_WRAPS = -Wl,--wrap=kv_sync,--wrap=kv_sync_cancel,--wrap=kv_state,--wrap=kv_transfer,--wrap=registry_index
AGENT_FIXTURE = tests/lib/agent_fixture.h tests/lib/agent_fixture.c $(LEADER) $(FLEETD_HOST)

# Each folder is one unit of compilation (see Makefile.am); make starts them in this order, the largest first. FLEETD_ALONE_SOURCES: tests replace
# functions of the file, which its folder calls, or include the file, so that it is a unit of its own. FLEETD_FAST_SOURCES: what answers requests for
# keys is optimised for speed, as the store is: 5 % fewer instructions for each.
FLEETD_SOURCES =
FLEETD_ALONE_SOURCES =
FLEETD_FAST_SOURCES =
FLEETD_UNITY =
include fleetd/identity/local.mk
include fleetd/sessions/local.mk
include fleetd/api/local.mk
include fleetd/registry/local.mk
include fleetd/engine/local.mk
FLEETD_UNITY += fleetd/unity-fast.c
include fleetd/agent/local.mk
include fleetd/systemd/local.mk
include fleetd/directory/local.mk
include fleetd/scheduler/local.mk
include fleetd/metrics/local.mk
include fleetd/host/local.mk
include fleetd/features/health/local.mk
include fleetd/problems/local.mk
include fleetd/features/rebalance/local.mk
include fleetd/features/reboot/local.mk
include fleetd/features/replicas/local.mk
include fleetd/features/rollout/local.mk
include fleetd/features/services/local.mk
include fleetd/features/usage/local.mk
include fleetd/features/data/local.mk
include fleetd/features/inputs/local.mk

FLEETD_UNITY += fleetd/unity.c
FLEETD_SOURCES += fleetd/maintenance.h fleetd/maintenance.c fleetd/guard_process.h fleetd/guard_process.c fleetd/creds.h fleetd/creds.c \
	fleetd/metrics_table.h fleetd/metrics_table.c fleetd/metrics_hosts.h fleetd/metrics_hosts.c fleetd/metrics_units.h fleetd/metrics_units.c \
	fleetd/service.h fleetd/service.c fleetd/trim.h fleetd/trim.c fleetd/daemon.h fleetd/daemon_internal.h fleetd/daemon_open.c fleetd/daemon_components.c fleetd/daemon_join.c fleetd/daemon_listen.c

if HAVE_CMOCKA
FLEETD_OWN_TESTS = tests/unit/test-trim tests/unit/test-service tests/unit/test-creds
check_PROGRAMS += $(FLEETD_OWN_TESTS)
TESTS += $(FLEETD_OWN_TESTS)
tests_unit_test_trim_SOURCES = tests/unit/test-trim.c
tests_unit_test_trim_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_service_SOURCES = tests/unit/test-service.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_service_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=sd_journal_sendv_with_location
tests_unit_test_service_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_creds_SOURCES = tests/unit/test-creds.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_creds_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif

$(foreach file,$(FLEETD_FAST_SOURCES) fleetd/unity-fast.c fleetd/api/routes.c,$(dir $(file))libfleetd_a-$(notdir $(file:.c=.$(OBJEXT)))): SIZE_CFLAGS =

if UNITY_BUILD
fleetd_libfleetd_a_SOURCES = $(FLEETD_ALONE_SOURCES)
nodist_fleetd_libfleetd_a_SOURCES = $(FLEETD_UNITY)
else
fleetd_libfleetd_a_SOURCES = $(FLEETD_SOURCES) $(FLEETD_ALONE_SOURCES) $(FLEETD_FAST_SOURCES)
endif

sbin_PROGRAMS += fleetd/fleetd
fleetd_fleetd_SOURCES = fleetd/main.c
fleetd_fleetd_CFLAGS = $(AM_CFLAGS) $(SYSTEMD_CFLAGS)
fleetd_fleetd_LDFLAGS = $(AM_LDFLAGS) -Wl,-Map=fleetd/fleetd.map
fleetd_fleetd_LDADD = $(FLEETD_LIBS)
CLEANFILES += fleetd/fleetd.map
