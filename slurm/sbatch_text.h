// SPDX-License-Identifier: BSD-3-Clause
// The bytes of templates/*.sh in the program, made by cmake/embed_file.cmake.
#ifndef PR_SLURM_SBATCH_TEXT_H
#define PR_SLURM_SBATCH_TEXT_H

#include <stddef.h>

extern const unsigned char pr_sbatch_text_serve[], pr_sbatch_text_batch[];
extern const unsigned char pr_sbatch_text_batch_array[], pr_sbatch_text_scaling[];
extern const unsigned char pr_sbatch_text_chain[], pr_sbatch_text_hetjob[];
extern const size_t pr_sbatch_text_serve_bytes, pr_sbatch_text_batch_bytes;
extern const size_t pr_sbatch_text_batch_array_bytes, pr_sbatch_text_scaling_bytes;
extern const size_t pr_sbatch_text_chain_bytes, pr_sbatch_text_hetjob_bytes;

#endif
