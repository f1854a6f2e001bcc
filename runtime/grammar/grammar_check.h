// SPDX-License-Identifier: BSD-3-Clause
// What must hold of a grammar before a matcher may walk it: it matches something within the depth that
// matchers have, and nothing in it calls itself before a byte is read (left recursion).
// Cost: a few passes over the nodes; with recursion up to PR_GRAMMAR_MAX_DEPTH.
#ifndef PR_RUNTIME_GRAMMAR_GRAMMAR_CHECK_H
#define PR_RUNTIME_GRAMMAR_GRAMMAR_CHECK_H

#include "runtime/grammar/grammar.h"

// Stands in `need` of a node that cannot reach its end.
enum { PR_GRAMMAR_ENDLESS = 1 << 20 };

// Fills `need` of all nodes. PR_ERR_REQUEST when the start is endless or there is left recursion.
pr_status pr_grammar_check(pr_grammar *grammar) PR_MUST_CHECK;

#endif
