/* Before mingw-w64's own: its kernel headers know no ARM64, and keep the layouts of 64-bit Windows (natural packing,
 * POINTER_ALIGNMENT of 8) behind _AMD64_. */
#pragma once
#if defined(__aarch64__) && !defined(_AMD64_)
#define _AMD64_ 1
#define _M_AMD64 100
#endif
#include_next <_mingw.h>
#undef __attribute__
#ifndef __MINGW_ATTRIB_DEPRECATED
#define __MINGW_ATTRIB_DEPRECATED
#endif
