// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/run_hdf5.h"

#include "runtime/base/log.h"

#ifdef PR_HAVE_HDF5

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

// Handles are closed even when they are invalid: HDF5 then only returns an error, and its own error
// stack is switched off for the time. `good` gathers what every call said.
typedef struct writing {
    hid_t file;
    bool good;
} writing;

static void note(writing *out, herr_t result) { out->good = out->good && result >= 0; }

// ---- Attributes ----

static void write_attribute(writing *out, const char *name, hid_t type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(out->file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    note(out, H5Awrite(attribute, type, value));
    H5Aclose(attribute);
    H5Sclose(space);
}

static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static void write_text(writing *out, const char *name, const char *text)
{
    hid_t type = text_type();
    write_attribute(out, name, type, &text);
    H5Tclose(type);
}

static void write_about(writing *out, json_t *about)
{
    const char *name;
    json_t *value;
    json_object_foreach(about, name, value)
    {
        if (json_is_string(value)) {
            write_text(out, name, json_string_value(value));
        } else if (json_is_integer(value)) {
            int64_t integer = json_integer_value(value);
            write_attribute(out, name, H5T_NATIVE_INT64, &integer);
        } else if (json_is_number(value)) {
            double real = json_real_value(value);
            write_attribute(out, name, H5T_NATIVE_DOUBLE, &real);
        }
    }
}

// ---- Tables ----

static void
write_table(writing *out, const char *name, hid_t memory_type, int64_t rows, const void *data)
{
    hsize_t size = (hsize_t)rows;
    hid_t type = H5Tcopy(memory_type), space = H5Screate_simple(1, &size, NULL);
    H5Tpack(type);  // fields of the records that are not written leave no holes in the file
    hid_t set = H5Dcreate2(out->file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    note(out, set >= 0 ? 0 : -1);
    if (rows > 0)
        note(out, H5Dwrite(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data));
    H5Dclose(set);
    H5Sclose(space);
    H5Tclose(type);
}

static void write_requests(writing *out, const pr_run_record *record)
{
    const struct {
        const char *name;
        size_t offset;
        hid_t type;
    } field[] = {
        {"id", offsetof(pr_request_row, id), H5T_NATIVE_INT64},
        {"arrival", offsetof(pr_request_row, arrival_s), H5T_NATIVE_DOUBLE},
        {"n_in", offsetof(pr_request_row, prompt_tokens), H5T_NATIVE_INT32},
        {"n_out", offsetof(pr_request_row, outputs), H5T_NATIVE_INT32},
        {"prefill_group", offsetof(pr_request_row, prefill_group), H5T_NATIVE_INT32},
        {"decode_group", offsetof(pr_request_row, decode_group), H5T_NATIVE_INT32},
        {"hit_tokens", offsetof(pr_request_row, hit_tokens), H5T_NATIVE_INT64},
        {"fetch_tokens", offsetof(pr_request_row, fetch_tokens), H5T_NATIVE_INT64},
        {"t_prefill_start", offsetof(pr_request_row, prefill_start_s), H5T_NATIVE_DOUBLE},
        {"t_first", offsetof(pr_request_row, first_s), H5T_NATIVE_DOUBLE},
        {"t_join", offsetof(pr_request_row, join_s), H5T_NATIVE_DOUBLE},
        {"t_finish", offsetof(pr_request_row, finish_s), H5T_NATIVE_DOUBLE},
        {"tbt_mean", offsetof(pr_request_row, tbt_mean_s), H5T_NATIVE_DOUBLE},
        {"tbt_tail", offsetof(pr_request_row, tbt_tail_s), H5T_NATIVE_DOUBLE},
        {"tenant", offsetof(pr_request_row, tenant), H5T_NATIVE_UINT64},
        {"priority", offsetof(pr_request_row, priority), H5T_NATIVE_INT32},
    };
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof(pr_request_row));
    for (size_t i = 0; i < sizeof field / sizeof *field; i++)
        note(out, H5Tinsert(type, field[i].name, field[i].offset, field[i].type));
    write_table(out, "requests", type, record->requests, record->request);
    H5Tclose(type);
}

static void write_spans(writing *out, const pr_run_record *record)
{
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof(pr_span_row));
    H5Tinsert(type, "group", offsetof(pr_span_row, group), H5T_NATIVE_INT32);
    H5Tinsert(type, "what", offsetof(pr_span_row, what), H5T_NATIVE_CHAR);
    H5Tinsert(type, "begin", offsetof(pr_span_row, begin_s), H5T_NATIVE_DOUBLE);
    H5Tinsert(type, "end", offsetof(pr_span_row, end_s), H5T_NATIVE_DOUBLE);
    H5Tinsert(type, "id", offsetof(pr_span_row, id), H5T_NATIVE_INT64);
    write_table(out, "spans", type, record->spans, record->span);
    H5Tclose(type);
}

typedef struct rejection {
    int64_t id;
    const char *reason;
} rejection;

static pr_status write_rejections(writing *out, const pr_run_record *record)
{
    int64_t count = 0;
    rejection *row = malloc(((size_t)record->requests + 1) * sizeof *row);
    if (!row)
        return pr_fail(PR_ERR_RESOURCE, "no memory to write the rejected requests");
    for (int64_t i = 0; i < record->requests; i++) {
        if (record->request[i].rejected)
            row[count++] = (rejection){record->request[i].id, record->request[i].rejected};
    }
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof *row), text = text_type();
    H5Tinsert(type, "id", offsetof(rejection, id), H5T_NATIVE_INT64);
    H5Tinsert(type, "reason", offsetof(rejection, reason), text);
    write_table(out, "rejected", type, count, row);
    H5Tclose(text);
    H5Tclose(type);
    free(row);
    return PR_OK;
}

pr_status pr_run_hdf5_write(const pr_run_record *record, json_t *about, const char *path)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    writing out = {.good = true, .file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)};
    if (out.file < 0)
        return pr_fail(PR_ERR_IO, "cannot write %s: is its folder there and writable?", path);
    write_about(&out, about);
    write_requests(&out, record);
    write_spans(&out, record);
    write_table(
        &out, "busy", H5T_NATIVE_DOUBLE, record->prefill_groups + record->decode_groups,
        record->busy_s);
    pr_status status = write_rejections(&out, record);
    note(&out, H5Fclose(out.file));
    if (status == PR_OK && !out.good)
        return pr_fail(PR_ERR_IO, "cannot write %s: HDF5 refused; is the disk full?", path);
    return status;
}

#else

pr_status pr_run_hdf5_write(const pr_run_record *record, json_t *about, const char *path)
{
    (void)record;
    (void)about;
    return pr_fail(
        PR_ERR_UNSUPPORTED, "cannot write %s: built without HDF5; use --dump FILE for CSV", path);
}

#endif
