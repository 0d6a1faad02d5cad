FLEETD_UNITY += fleetd/features/services/unity.c
FLEETD_SOURCES += fleetd/features/services/services_internal.h fleetd/features/services/services.c fleetd/features/services/stage.c
