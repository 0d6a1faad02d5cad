/* Shared by export and import of a folder (client/verbs/export.c has its files). */
#pragma once

#include "client/core/client.h"

enum { EXPORT_FORMAT = 1 }; /* of the folder; a reader rejects a newer one */
