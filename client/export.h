/* What export and import of a folder share (client/export.c has its files). */
#pragma once

#include "client/client.h"

enum { EXPORT_FORMAT = 1 }; /* of the folder; a reader rejects a newer one */
