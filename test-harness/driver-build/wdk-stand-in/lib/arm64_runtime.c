/* Stands in for arm64rt.lib, which the linker is told to search. Nothing of it is called. */
static const int Unused __attribute__((used)) = 0;
