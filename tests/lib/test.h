/* cmocka, and the headers that its own one needs. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>

#include "base/memory.h"

#include <cmocka.h>
