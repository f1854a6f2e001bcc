#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
# processors: 1
# Skipped (77) where clang-format 14 is missing.
cd "$POLYREME_SOURCE" && exec bash scripts/check_format
