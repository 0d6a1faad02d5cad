FLEETD_UNITY += fleetd/engine/unity.c
FLEETD_SOURCES += fleetd/engine/plan.h fleetd/engine/plan_internal.h fleetd/engine/plan_state.c fleetd/engine/plan_change.c fleetd/engine/position.c \
	fleetd/engine/drain.h fleetd/engine/drain.c fleetd/engine/controller.h fleetd/engine/drain_write.c \
	fleetd/engine/rollout_set.h fleetd/engine/rollout_set.c fleetd/engine/rollout_budget.h fleetd/engine/rollout_budget.c fleetd/engine/move.c fleetd/engine/move_end.c \
	fleetd/engine/move_start.c fleetd/engine/reconnect.c fleetd/engine/global.c fleetd/engine/singleton.c fleetd/engine/affected.c \
	fleetd/engine/bound.c fleetd/engine/explain.h fleetd/engine/explain.c fleetd/engine/move_request.h fleetd/engine/move_request.c \
	fleetd/engine/reported.c fleetd/engine/brake.c fleetd/engine/waits.h fleetd/engine/waits.c fleetd/engine/engine.h fleetd/engine/engine.c
FLEETD_ALONE_SOURCES += fleetd/engine/plan.c

if HAVE_CMOCKA
FLEETD_ENGINE_TESTS = tests/unit/test-engine tests/unit/test-engine_plan tests/unit/test-engine_brake tests/unit/test-engine_singleton \
	tests/unit/test-engine_places tests/unit/test-drain tests/unit/test-drain_moves tests/unit/test-move \
	 \
	 tests/unit/test-engine_memory tests/unit/test-engine_waits
check_PROGRAMS += $(FLEETD_ENGINE_TESTS)
TESTS += $(FLEETD_ENGINE_TESTS)
tests_unit_test_engine_SOURCES = tests/unit/test-engine.c tests/lib/engine_fixture.h tests/lib/engine_fixture.c tests/lib/alloc.h tests/lib/alloc.c \
	tests/lib/manual_loop.h tests/lib/manual_loop.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_LDFLAGS = $(FAILING_ALLOCATIONS) \
	-Wl,--wrap=timer_start,--wrap=timer_start_by,--wrap=timer_stop,--wrap=loop_defer,--wrap=deferred_cancel,--wrap=kv_state,--wrap=kv_leads,--wrap=kv_cluster_ms \
	-Wl,--wrap=registry_cluster,--wrap=registry_ready,--wrap=registry_is_current,--wrap=registry_store,--wrap=registry_observe,--wrap=registry_unobserve \
	-Wl,--wrap=registry_cancel,--wrap=registry_assign,--wrap=registry_refused_assignment,--wrap=registry_end_adoption,--wrap=registry_note,--wrap=engine_plan
tests_unit_test_engine_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_engine_plan_SOURCES = tests/unit/test-engine_plan.c tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_plan_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_engine_brake_SOURCES = tests/unit/test-engine_brake.c tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_brake_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_engine_singleton_SOURCES = tests/unit/test-engine_singleton.c tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_singleton_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_engine_places_SOURCES = tests/unit/test-engine_places.c tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_places_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_drain_SOURCES = tests/unit/test-drain.c tests/lib/drains.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_drain_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_drain_moves_SOURCES = tests/unit/test-drain_moves.c tests/lib/drains.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_drain_moves_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_move_SOURCES = tests/unit/test-move.c tests/lib/drains.h tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_move_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_engine_memory_SOURCES = tests/unit/test-engine_memory.c tests/lib/alloc.h tests/lib/alloc.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_memory_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_engine_memory_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_engine_waits_SOURCES = tests/unit/test-engine_waits.c tests/lib/engine_fixture.h tests/lib/engine_fixture.c tests/lib/alloc.h \
	tests/lib/alloc.c tests/lib/manual_loop.h tests/lib/manual_loop.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_waits_LDFLAGS = $(tests_unit_test_engine_LDFLAGS)
tests_unit_test_engine_waits_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
