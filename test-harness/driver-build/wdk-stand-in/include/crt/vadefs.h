/* mingw-w64's; but for compilers that are not GCC it takes the address of the last parameter, which in clang is no place on the
 * stack. */
#pragma once
#include_next <vadefs.h>
#undef _crt_va_start
#undef _crt_va_arg
#undef _crt_va_end
#undef _crt_va_copy
#define _crt_va_start(v, l) __builtin_va_start(v, l)
#define _crt_va_arg(v, l) __builtin_va_arg(v, l)
#define _crt_va_end(v) __builtin_va_end(v)
#define _crt_va_copy(d, s) __builtin_va_copy(d, s)
