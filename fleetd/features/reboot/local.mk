FLEETD_UNITY += fleetd/features/reboot/unity.c
FLEETD_SOURCES += fleetd/features/reboot/reboot.h fleetd/features/reboot/reboot_internal.h fleetd/features/reboot/reboot.c fleetd/features/reboot/reboot_why.h fleetd/features/reboot/reboot_why.c \
	fleetd/features/reboot/reboots_v1.c fleetd/features/reboot/rebooting.c

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-reboot
TESTS += tests/unit/test-reboot
tests_unit_test_reboot_SOURCES = tests/unit/test-reboot.c tests/lib/drains.h tests/lib/reboots.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_reboot_LDADD = $(FLEETD_PURE_LIBS)
endif
