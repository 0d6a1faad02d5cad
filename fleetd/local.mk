noinst_LIBRARIES += fleetd/libfleetd.a
fleetd_libfleetd_a_CFLAGS = $(AM_CFLAGS)
fleetd_libfleetd_a_SOURCES = \
	fleetd/registry/layout.h fleetd/registry/layout.c \
	fleetd/registry/cluster.h fleetd/registry/cluster.c \
	fleetd/scheduler/scheduler.h fleetd/scheduler/scheduler.c \
	fleetd/scheduler/rules.h fleetd/scheduler/filters.c \
	fleetd/registry/registry.h fleetd/registry/registry.c fleetd/registry/write.h \
	fleetd/registry/units.c \
	fleetd/registry/schedule.c \
	fleetd/registry/states.c \
	fleetd/registry/machines.c \
	fleetd/engine/plan.h fleetd/engine/plan.c \
	fleetd/engine/concern.c \
	fleetd/engine/brake.h fleetd/engine/brake.c \
	fleetd/engine/engine.h fleetd/engine/engine.c \
	fleetd/membership/liveness.h fleetd/membership/liveness.c \
	fleetd/membership/voters.h fleetd/membership/voters.c
