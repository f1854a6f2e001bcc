// SPDX-License-Identifier: BSD-3-Clause
// The head and the table of polyreme.weights. Input: the 64 bytes of a head, then a table. The table is
// parsed whatever the head says, with 1 MiB of data before it, and printed and parsed again if it is good.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/model/packed_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print_and_parse(const pr_packed_table *table)
{
    pr_packed_table again;
    char *text = pr_packed_table_print(table);
    if (!text)
        return;
    if (pr_packed_table_parse("fuzz", text, strlen(text), 1 << 20, &again) != PR_OK ||
        again.count != table->count)
        abort();
    pr_packed_table_release(&again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pr_packed_head head;
    pr_packed_table table;
    if (size < PR_PACKED_HEAD_BYTES)
        return 0;
    size_t text_bytes = size - PR_PACKED_HEAD_BYTES;
    pr_error_capture_begin();
    if (pr_packed_head_decode("fuzz", data, size, &head) == PR_OK &&
        head.table_begin + head.table_bytes != size)
        abort();
    if (pr_packed_table_parse("fuzz", data + PR_PACKED_HEAD_BYTES, text_bytes, 1 << 20, &table) ==
        PR_OK) {
        print_and_parse(&table);
        pr_packed_table_release(&table);
    }
    pr_error_capture_end();
    return 0;
}
