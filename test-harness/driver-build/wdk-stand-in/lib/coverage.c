/* What an image with SanitizerCoverage has to be linked with: the ends of the sections that the compiler puts counters (.SCOV$CM)
   and their addresses (.SCOVP$M) into, in the linker's alphabetical order, and the functions that its constructors would tell of
   them. A driver runs no constructors: whoever loads the image finds the sections by their names. */

#pragma section(".SCOV$CA", read, write)
#pragma section(".SCOV$CZ", read, write)
#pragma section(".SCOVP$A", read)
#pragma section(".SCOVP$Z", read)

__declspec(allocate(".SCOV$CA")) unsigned long long __start___sancov_cntrs = 0;
__declspec(allocate(".SCOV$CZ")) unsigned char __stop___sancov_cntrs = 0;
__declspec(allocate(".SCOVP$A")) unsigned long long __start___sancov_pcs = 0;
__declspec(allocate(".SCOVP$Z")) unsigned long long __stop___sancov_pcs = 0;

void __sanitizer_cov_8bit_counters_init(unsigned char *start, unsigned char *stop) {
}

void __sanitizer_cov_pcs_init(const unsigned long long *start, const unsigned long long *stop) {
}
