FLEETD_UNITY += fleetd/features/rollout/unity.c
FLEETD_SOURCES += fleetd/features/rollout/rollout.h fleetd/features/rollout/rollout_internal.h fleetd/features/rollout/rollout.c \
	fleetd/features/rollout/rollout_choose.c fleetd/features/rollout/rollout_ask.c fleetd/features/rollout/rollout_write.c \
	fleetd/features/rollout/rollout_why.c fleetd/features/rollout/rollout_failure.c fleetd/features/rollout/rollouts.h fleetd/features/rollout/rollouts.c fleetd/features/rollout/rollouts_v1.c

if HAVE_CMOCKA
FLEETD_ROLLOUT_TESTS = tests/unit/test-rollout tests/unit/test-rollout_random tests/unit/test-rollout_surge \
	tests/unit/test-rollout_ends tests/unit/test-rollout_large tests/unit/test-rollout_budget \
	tests/unit/test-rollout_content
check_PROGRAMS += $(FLEETD_ROLLOUT_TESTS)
TESTS += $(FLEETD_ROLLOUT_TESTS)
tests_unit_test_rollout_SOURCES = tests/unit/test-rollout.c tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_random_SOURCES = tests/unit/test-rollout_random.c tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_random_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_surge_SOURCES = tests/unit/test-rollout_surge.c tests/lib/rollout_play.h tests/lib/drains.h tests/lib/reboots.h \
	tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_surge_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_ends_SOURCES = tests/unit/test-rollout_ends.c tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_ends_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_content_SOURCES = tests/unit/test-rollout_content.c tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_content_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_large_SOURCES = tests/unit/test-rollout_large.c tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_large_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_budget_SOURCES = tests/unit/test-rollout_budget.c tests/lib/rollout_play.h tests/lib/drains.h tests/lib/plans.h \
	$(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_budget_LDADD = $(FLEETD_PURE_LIBS)
endif
