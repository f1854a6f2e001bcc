// SPDX-License-Identifier: BSD-3-Clause
// The last refusal of the emulated back end, for each thread of the host.
#ifndef PR_KERNELS_GPU_EMULATED_ERROR_H
#define PR_KERNELS_GPU_EMULATED_ERROR_H

void pr_emulated_error_set(const char *format, ...) __attribute__((format(printf, 1, 2)));
// The same for a launch, which cannot say it itself: the next wait of this thread does.
void pr_emulated_error_set_launch(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool pr_emulated_error_of_launch(void);
const char *
pr_emulated_error_take(void);  // "" if there was none; valid until this thread's next call

#endif
