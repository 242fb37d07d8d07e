/* Stands in for BufferOverflowFastFailK.lib: the stack cookie, and the stop when a frame has lost it. */
#include <stdint.h>

#define DEFAULT_SECURITY_COOKIE 0x00002B992DDFA232ull
#define FAST_FAIL_STACK_COOKIE_CHECK_FAILURE 2

uintptr_t __security_cookie = DEFAULT_SECURITY_COOKIE;
uintptr_t __security_cookie_complement = ~DEFAULT_SECURITY_COOKIE;

static uint64_t CycleCounter(void) {
#if defined(__x86_64__)
    return __builtin_readcyclecounter();
#else
    uint64_t Value;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(Value));
    return Value;
#endif
}

static __attribute__((noreturn)) void FastFail(unsigned Code) {
#if defined(__x86_64__)
    __asm__ volatile("int $0x29" ::"c"(Code));
#else
    register unsigned Argument __asm__("w0") = Code;
    __asm__ volatile("brk #0xf003" ::"r"(Argument));
#endif
    __builtin_unreachable();
}

/* Windows' loader fills the cookie of an image whose load configuration names it; this one's does not. */
void __security_init_cookie(void) {
    if (__security_cookie == DEFAULT_SECURITY_COOKIE) {
        /* The top 16 bits stay clear, so that a string copied over the cookie ends in it. */
        uintptr_t Cookie = (CycleCounter() ^ (uintptr_t)&__security_cookie) & 0x0000FFFFFFFFFFFFull;
        __security_cookie = Cookie == 0 ? DEFAULT_SECURITY_COOKIE + 1 : Cookie;
        __security_cookie_complement = ~__security_cookie;
    }
}

void __security_check_cookie(uintptr_t Cookie) {
    if (Cookie != __security_cookie) {
        FastFail(FAST_FAIL_STACK_COOKIE_CHECK_FAILURE);
    }
}
