noinst_LIBRARIES += fleetd/libfleetd.a
fleetd_libfleetd_a_CFLAGS = $(AM_CFLAGS) $(SYSTEMD_CFLAGS)
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
	fleetd/membership/voters.h fleetd/membership/voters.c \
	fleetd/membership/membership.h fleetd/membership/membership.c \
	fleetd/systemd/systemd.h \
	fleetd/systemd/unit_dir.h fleetd/systemd/unit_dir.c \
	fleetd/systemd/systemd_bus.h fleetd/systemd/systemd_bus.c \
	fleetd/agent/agent.h fleetd/agent/agent.c \
	fleetd/agent/plan.h fleetd/agent/plan.c \
	fleetd/agent/notes.h fleetd/agent/notes.c \
	fleetd/agent/publish.h fleetd/agent/publish.c \
	fleetd/agent/facts.h fleetd/agent/facts.c \
	fleetd/directory/directory.h fleetd/directory/directory.c \
	fleetd/directory/diff.h fleetd/directory/diff.c \
	fleetd/api/api.h fleetd/api/request.h fleetd/api/api.c \
	fleetd/api/keys_v2.h fleetd/api/keys_v2.c \
	fleetd/api/cluster_v2.c \
	fleetd/api/fleet_v1.h fleetd/api/fleet_v1.c \
	fleetd/api/events.c \
	fleetd/api/calls.c \
	fleetd/settings.h fleetd/settings.c \
	fleetd/service.h fleetd/service.c \
	fleetd/daemon.h fleetd/daemon.c

sbin_PROGRAMS += fleetd/fleetd
fleetd_fleetd_SOURCES = fleetd/main.c
fleetd_fleetd_CFLAGS = $(AM_CFLAGS) $(SYSTEMD_CFLAGS)

# What a program made of the daemon's rooms links.
FLEETD_LIBS = fleetd/libfleetd.a units/libunits.a $(KVSTORE_LIBS) $(GNUTLS_LIBS) $(JANSSON_LIBS) $(SYSTEMD_LIBS)
fleetd_fleetd_LDADD = $(FLEETD_LIBS)
