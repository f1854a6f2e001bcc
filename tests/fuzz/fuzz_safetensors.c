// SPDX-License-Identifier: BSD-3-Clause
// The safetensors header parser. Input: u32 little-endian bytes of data that the file claims to
// have after its header, then the header's JSON.
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/log.h"
#include "runtime/model/weights_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    uint64_t data_bytes = 0;
    for (int i = 3; i >= 0; i--)
        data_bytes = data_bytes << 8 | data[i];
    uint64_t header_bytes = size - 4;
    pr_error_capture_begin();
    pr_status status =
        pr_weights_check_header("fuzz", data + 4, header_bytes, 8 + header_bytes + data_bytes);
    pr_error_capture_end();
    (void)status;  // any answer is right, as long as it comes back
    return 0;
}
