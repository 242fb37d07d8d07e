/* Before mingw-w64's own, whose FIELD_OFFSET is no constant expression to clang. */
#pragma once
#include_next <ntdef.h>
#undef FIELD_OFFSET
#define FIELD_OFFSET(type, field) ((LONG)__builtin_offsetof(type, field))
