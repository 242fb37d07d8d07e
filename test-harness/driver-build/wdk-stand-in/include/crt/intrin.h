/* Compiler intrinsics that the kernel headers name in inline code. On ARM64 they only have to parse. */
#pragma once
#if defined(__x86_64__) || defined(__aarch64__)
#if defined(__x86_64__)
/* The compiler of the real WDK has these built in; clang has not. The IRQL lies in CR8. */
static __inline__ unsigned __int64 __readcr8(void) {
    unsigned __int64 value;
    __asm__ volatile("movq %%cr8, %0" : "=r"(value));
    return value;
}
static __inline__ void __writecr8(unsigned __int64 value) { __asm__ volatile("movq %0, %%cr8" : : "r"(value) : "memory"); }
#else
unsigned __int64 __readcr8(void);
void __writecr8(unsigned __int64);
#endif
unsigned short __readgsword(unsigned long);
unsigned __int64 __readgsqword(unsigned long);
unsigned __int64 __umulh(unsigned __int64, unsigned __int64);
void __stosb(unsigned char *, unsigned char, unsigned __int64);
void __stosq(unsigned __int64 *, unsigned __int64, unsigned __int64);
void __movsb(unsigned char *, unsigned char const *, unsigned __int64);
void __movsw(unsigned short *, unsigned short const *, unsigned __int64);
void __movsd(unsigned long *, unsigned long const *, unsigned __int64);
unsigned char __inbyte(unsigned short);
unsigned short __inword(unsigned short);
unsigned long __indword(unsigned short);
void __outbyte(unsigned short, unsigned char);
void __outword(unsigned short, unsigned short);
void __outdword(unsigned short, unsigned long);
void __inbytestring(unsigned short, unsigned char *, unsigned long);
void __inwordstring(unsigned short, unsigned short *, unsigned long);
void __indwordstring(unsigned short, unsigned long *, unsigned long);
void __outbytestring(unsigned short, unsigned char *, unsigned long);
void __outwordstring(unsigned short, unsigned short *, unsigned long);
void __outdwordstring(unsigned short, unsigned long *, unsigned long);
#endif
