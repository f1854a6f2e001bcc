// SPDX-License-Identifier: BSD-3-Clause
// One render under way, and the two that call each other in it: template_eval.c evaluates expressions,
// template_run.c runs statements and macros.
//   scopes   innermost ── loop turn ── macro ── ... ── top;   a name is looked for outwards, then among the globals
// Recursion is counted in `depth`, so that neither nesting nor macros that call themselves exhaust the stack.
// Threads: one render, one thread.
// Source: Jinja 3.1 template designer documentation, "Assignments" (scoping) and "Macros".
#ifndef PR_RUNTIME_TEMPLATE_TEMPLATE_RENDER_H
#define PR_RUNTIME_TEMPLATE_TEMPLATE_RENDER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/template/template_ast.h"
#include "runtime/value/template_builder.h"

enum { PR_TEMPLATE_RENDER_MAX_DEPTH = 1000, PR_TEMPLATE_RENDER_MAX_TURNS = 1000000 };

typedef struct pr_template_binding {
    int32_t symbol;
    pr_template_value value;
} pr_template_binding;

typedef struct pr_template_scope {
    struct pr_template_scope *outer;
    pr_template_binding *binding;
    size_t size, capacity;
    bool captured;  // a macro was defined in it, or further inside
} pr_template_scope;

typedef struct pr_template_macro {
    const pr_template_definition *definition;
    pr_template_scope *scope;
} pr_template_macro;

typedef struct pr_template_render {
    pr_template_heap heap;
    const pr_template_program *program;
    pr_template_value *global;  // [symbols], ABSENT where there is none
    pr_template_scope *scope;
    pr_template_builder *output;
    pr_template_value body;  // what BODY stands for
    int32_t depth;
    int64_t turns;   // of all loops
    json_t *parsed;  // an array that keeps alive what from_json read, or NULL
    bool has_now;
    int64_t now_s;  // since the epoch: what strftime_now shows, if has_now
} pr_template_render;

typedef enum pr_template_signal {
    PR_TEMPLATE_GO_ON,
    PR_TEMPLATE_BREAK,
    PR_TEMPLATE_CONTINUE,
} pr_template_signal;

pr_status pr_template_eval_enter(pr_template_render *render) PR_MUST_CHECK;
static inline void pr_template_eval_leave(pr_template_render *render) { render->depth--; }

// ---- template_eval.c

pr_status
pr_template_eval(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
    PR_MUST_CHECK;
pr_status pr_template_eval_arguments(
    pr_template_render *render,
    const pr_template_call_arguments *nodes,
    const pr_template_value *caller,  // one more keyword, or NULL
    pr_template_arguments *arguments) PR_MUST_CHECK;
pr_status pr_template_eval_call(
    pr_template_render *render,
    const pr_template_value *callee,
    const pr_template_arguments *arguments,
    pr_template_value *result) PR_MUST_CHECK;
// object.name and object["name"]: undefined when there is none, a fault when the object is undefined.
pr_status pr_template_eval_attribute(
    pr_template_render *render,
    const pr_template_value *object,
    pr_template_text name,
    pr_template_value *value) PR_MUST_CHECK;
pr_status pr_template_eval_subscript(
    pr_template_render *render,
    const pr_template_value *object,
    const pr_template_value *index,
    pr_template_value *value) PR_MUST_CHECK;

// ---- template_run.c

pr_status pr_template_run(
    pr_template_render *render,
    const pr_template_nodes *block,
    pr_template_signal *signal) PR_MUST_CHECK;
pr_status pr_template_run_macro(
    pr_template_render *render,
    const pr_template_macro *macro,
    const pr_template_arguments *arguments,
    pr_template_value *result) PR_MUST_CHECK;

#endif
