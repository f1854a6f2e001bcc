// SPDX-License-Identifier: BSD-3-Clause
// page.html as bytes in the program: what a server answers to GET /. It fetches nothing from elsewhere, so it is to
// be sent with
//   Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'
// The array is written by cmake/embed_file.cmake at build time. Threads: any; constant.
#ifndef PR_LAUNCHER_PAGE_PAGE_H
#define PR_LAUNCHER_PAGE_PAGE_H

#include <stddef.h>

extern const unsigned char pr_page[];  // [pr_page_bytes], UTF-8, not terminated
extern const size_t pr_page_bytes;

#endif
