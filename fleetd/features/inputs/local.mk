FLEETD_UNITY += fleetd/features/inputs/unity.c
FLEETD_SOURCES += fleetd/features/inputs/inputs_internal.h fleetd/features/inputs/inputs.c fleetd/features/inputs/secrets.c \
	fleetd/features/inputs/secrets_v1.c fleetd/features/inputs/content.h fleetd/features/inputs/input_files.h
