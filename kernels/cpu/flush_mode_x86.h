// SPDX-License-Identifier: BSD-3-Clause
// Denormals as zero on x86, for the calling thread: what flushed.h computes, by the vector unit. The
// arithmetic in between belongs into a function that is not inlined, or the compiler moves it out.
#ifndef PR_KERNELS_CPU_FLUSH_MODE_X86_H
#define PR_KERNELS_CPU_FLUSH_MODE_X86_H

#include <immintrin.h>

// Returns what pr_flush_end restores.
static inline unsigned pr_flush_begin(void)
{
    enum { FLUSH_TO_ZERO = 0x8000, DENORMALS_ARE_ZERO = 0x40 };
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO);
    return before;
}

static inline void pr_flush_end(unsigned before) { _mm_setcsr(before); }

#endif
